"""The committed results of the matrix: they belong to its settings, are complete, and come back."""

import random
from pathlib import Path

import pytest
import torch

from gilib.matrix import DEFENSES, CostCell, matrix, tried
from gilib.matrix.measure import PATIENCE
from gilib.studies import computed, load

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "matrix.jsonl"
CHAOTIC = {"DLG", "GIAS"}  # small differences grow there, from one kind of processor to the next
SAMPLE, SLOW = 5, 12.0
MEASURES = ("psnr", "ssim", "named", "read")


CELLS = [*tried(), *matrix()]


def attacked() -> list[dict]:
    return [one for one in load(RESULTS) if one["attack"]]


def test_the_results_are_complete_and_belong_to_their_settings():
    assert [one["key"] for one in load(RESULTS)] == [cell.key for cell in CELLS], (
        "bench/matrix.jsonl does not belong to these settings: run make matrix"
    )


def test_every_image_has_all_measures():
    for one in attacked():
        for way in {"plain", "adaptive"} & one.keys():
            assert "refused" in one[way] or len({len(one[way][name]) for name in MEASURES}) == 1
            assert "refused" in one[way] or len(one[way]["psnr"]) >= 10


def test_the_matrix_has_the_axes_that_it_promises():
    found = attacked()
    assert {one["rounds"] for one in found} == {1, PATIENCE}
    assert {one["defense"] for one in found} == {entry.name for entry in DEFENSES}
    assert len({one["seed"] for one in found}) == 3
    assert {"digits, LeNet", "photographs, LeNet", "photographs, ResNet-8"} <= {one["scene"] for one in found}
    for entry in DEFENSES:
        assert {one["rounds"] for one in found if one["defense"] == entry.name} == {1, PATIENCE}


def test_an_attack_refuses_only_where_it_cannot_apply():
    refused = {(one["attack"], one["defense"]) for one in attacked() if "refused" in one["adaptive"]}
    sums = {"Secure aggregation", "DP-SGD, central", "DP-SGD, distributed"}
    expected = {("Linear loss", name) for name in (*sums, "Local iterations", "PRECODE")}
    expected |= {("SPEAR", name) for name in ("Fewer filters", "Quantization")}  # a first layer without a gradient
    expected |= {("R-GAP", name) for name in (*sums, "Local iterations", "Dropout", "PRECODE")}
    assert refused <= expected, refused - expected


def test_undefended_people_are_recovered_before_training():
    for attack, scene in (("Inverting Gradients", "digits, LeNet"), ("Division", "digits, MLP")):
        [scores] = [
            torch.tensor(one["adaptive"]["psnr"])
            for one in attacked()
            if (one["attack"], one["scene"], one["defense"]) == (attack, scene, "None")
            and (one["stage"], one["seed"], one["rounds"]) == (0, 0, 1)
        ]
        assert scores.median() > 40


def test_the_rates_are_the_best_that_were_tried():
    tries = {
        (one["defense"], one["rate"]): one["accuracy"] for one in load(RESULTS) if one["scene"].startswith("public")
    }
    for entry in DEFENSES:
        best = max(accuracy for (name, _), accuracy in tries.items() if name == entry.name)
        assert tries[entry.name, entry.rate] == best, entry.name


def test_a_random_sample_of_the_committed_results_comes_back():
    stored, draw = {one["key"]: one for one in load(RESULTS)}, random.SystemRandom()
    cheap = [cell for cell in CELLS if stored[cell.key]["computed in"] < SLOW]
    for cell in draw.sample(cheap, SAMPLE):
        before, after = stored[cell.key], computed(cell)
        if isinstance(cell, CostCell):
            assert after["bytes"] == pytest.approx(before["bytes"], rel=0.02), cell.title  # ciphertexts vary a little
            assert after["accuracy"] == pytest.approx(before["accuracy"], abs=0.03), cell.title
            continue
        for way in {"plain", "adaptive"} & before.keys():
            assert same(before[way], after[way], 10.0 if cell.attack.name in CHAOTIC else 2.0), f"{cell.title}, {way}"


def same(before: dict, after: dict, tolerance: float) -> bool:
    """Whether two results agree: within ``tolerance`` dB in the median, where above 40 dB everything is recovered."""
    if "refused" in before or "refused" in after:
        return before == after
    one, other = (min(float(torch.tensor(side["psnr"]).quantile(0.5)), 40.0) for side in (before, after))
    return abs(one - other) <= tolerance


def test_a_wrong_result_would_be_noticed():
    right = {"psnr": [20.0] * 8}
    assert same(right, {"psnr": [20.4] * 8}, 1.0)
    assert not same(right, {"psnr": [22.0] * 8}, 1.0)
    assert not same(right, {"refused": "no"}, 1.0)
    assert same({"psnr": [60.0] * 8}, {"psnr": [200.0] * 8}, 1.0)
