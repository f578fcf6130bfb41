"""What the matrix measures: that its entries do what they say, and that the committed results come back."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matrix.small import DIVISION, NONE, Guess

from gilib import iteration, metrics
from gilib.federated import LocalTraining
from gilib.iteration import matching, priors
from gilib.iteration.hidden import searched
from gilib.matrix import ATTACKS, DEFENSES, STAGES, Adaptation, AttackCell, CostCell, cells, scene
from gilib.matrix.attacks import adapted
from gilib.matrix.defenses import unaware
from gilib.studies import computed, load

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "matrix.jsonl"
BY_NAME = {entry.name: entry for entry in DEFENSES}
CHAOTIC = {"DLG", "iDLG", "CPL", "GIAS", "GGL"}  # small differences grow there, from one kind of processor to the next
SAMPLE = 10


def test_eight_people_hold_different_digits_that_nobody_trained_on() -> None:
    at = scene("LeNet", 0)
    assert len(at.people) == len(at.all.labels.unique()) == 8
    distances = (at.truth.flatten(1)[:, None] - at.training.images.double().flatten(1)[None]).abs().sum(dim=2)
    assert distances.min() > 0
    assert torch.equal(scene("LeNet", 0).truth, at.truth)


@pytest.mark.parametrize("network", ["LeNet", "ConvNet", "MLP"])
def test_the_networks_work_after_training_and_not_before(network: str) -> None:
    right = [
        (at.model(at.unseen.images.double()).argmax(dim=1) == at.unseen.labels).double().mean()
        for at in (scene(network, stage) for stage in STAGES)
    ]
    assert right[0] < 0.25
    assert right[1] > 0.7


def test_an_unknown_network_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="LeNet, ConvNet, MLP"):
        scene("ResNet", 0)


def test_an_adaptation_changes_every_stage_and_only_what_it_names() -> None:
    how = Adaptation(matching=matching.sent_only, priors=(priors.total_variation(0.1),), draws=searched())
    attack = iteration.gias(torch.nn.Identity(), 4, weight_iterations=10)
    for before, after in zip(attack.stages, adapted(attack, how).stages, strict=True):  # type: ignore[attr-defined]
        assert after.matching == matching.sent_only(before.matching)
        assert after.priors == (*before.priors, priors.total_variation(0.1))
        assert after.draws == searched()
        assert replace(after, matching=before.matching, priors=before.priors, draws=before.draws) == before
    assert adapted(attack, Adaptation()) == attack


def test_the_plain_attacker_takes_local_training_for_one_step() -> None:
    entry = BY_NAME["Local iterations"]
    update = entry.updates(entry.scene("MLP", 0))[0]
    assert update.local.steps == 10
    assert unaware(update) == replace(update, local=LocalTraining())


@pytest.mark.parametrize(("name", "plain", "adaptive"), [("MixUp", 20, 100), ("InstaHide", 15, 100), ("ATS", 15, 18)])
def test_obscured_digits_come_back_from_exact_encodings(name: str, plain: float, adaptive: float) -> None:
    entry = BY_NAME[name]
    for stage in STAGES:
        at = entry.scene("MLP", stage)
        assert metrics.psnr(entry.plain(DIVISION, at).clamp(0, 1), at.truth).median() < plain
        assert metrics.psnr(entry.adaptive(DIVISION, at).clamp(0, 1), at.truth).median() > adaptive


def test_a_sum_stops_division_and_not_spear() -> None:
    entry, [spear] = BY_NAME["Secure aggregation"], [one for one in ATTACKS if one.name == "SPEAR"]
    at = entry.scene("MLP", 0)
    [update] = entry.updates(at)
    mean = torch.stack([one.gradients["linear.weight"] for one in NONE.updates(at)]).mean(dim=0)
    torch.testing.assert_close(update.gradients["linear.weight"], mean)
    assert metrics.psnr(entry.adaptive(DIVISION, at), at.truth).max() < 25
    assert metrics.psnr(entry.adaptive(spear, at).clamp(0, 1), at.truth).min() > 100


def test_encryption_leaves_only_a_guess() -> None:
    entry = BY_NAME["Encryption"]
    at = entry.scene("MLP", 0)
    assert torch.equal(entry.adaptive(DIVISION, at), entry.plain(Guess(), at))
    assert entry.sent_bytes(at) > NONE.sent_bytes(at)


def test_an_attack_that_does_not_apply_is_recorded_with_its_reason() -> None:
    [rgap] = [one for one in ATTACKS if one.name == "R-GAP"]
    result = AttackCell(rgap, BY_NAME["Secure aggregation"], 0).measure()
    assert "one image" in result["adaptive"]["refused"]
    assert len(result["plain"]["psnr"]) == 8


def test_the_matrix_is_as_large_as_it_says_and_its_results_are_complete() -> None:
    results = load(RESULTS)
    assert [one["key"] for one in results] == [cell.key for cell in cells(ATTACKS, DEFENSES)], (
        "bench/matrix.jsonl does not belong to these settings: run make matrix"
    )
    measured = [one for one in results if one["attack"]]
    assert len({one["attack"] for one in measured}) >= 6
    assert len({one["defense"] for one in measured}) >= 13  # twelve and none
    assert {one["stage"] for one in measured} == set(STAGES)
    for one in measured:
        for way in ("plain", "adaptive"):
            assert "refused" in one[way] or len(one[way]["psnr"]) == len(one[way]["ssim"]) == 8


def test_an_attack_refuses_only_where_it_cannot_apply() -> None:
    refused = {
        (one["attack"], one["defense"], way)
        for one in load(RESULTS)
        if one["attack"]
        for way in ("plain", "adaptive")
        if "refused" in one[way]
    }
    assert refused == {
        *((name, "Secure aggregation", "adaptive") for name in ("iDLG", "CPL", "R-GAP")),  # one image each
        ("R-GAP", "Local iterations", "adaptive"),  # one step
        *(("R-GAP", name, way) for name in ("Dropout", "PRECODE") for way in ("plain", "adaptive")),  # other layers
    }


def test_undefended_people_are_recovered_by_most_attacks() -> None:
    scores = [
        torch.tensor(one["adaptive"]["psnr"]).median()
        for one in load(RESULTS)
        if one["attack"] and one["defense"] == "None" and one["stage"] == 0
    ]
    assert sum(float(score) > 25 for score in scores) >= 7


def test_a_random_sample_of_the_committed_results_comes_back() -> None:
    every, draw = cells(ATTACKS, DEFENSES), random.SystemRandom()
    stored = {one["key"]: one for one in load(RESULTS)}
    for cell in draw.sample(every, SAMPLE):
        before, after = stored[cell.key], computed(cell)
        if isinstance(cell, CostCell):
            assert after["bytes"] == pytest.approx(before["bytes"], rel=0.02), cell.title  # ciphertexts vary a little
            assert after["accuracy"] == pytest.approx(before["accuracy"], abs=0.03), cell.title
            continue
        for way in ("plain", "adaptive"):
            assert same(before[way], after[way], 10.0 if cell.attack.name in CHAOTIC else 1.0), f"{cell.title}, {way}"


def same(before: dict, after: dict, tolerance: float) -> bool:
    """Whether two results agree: within ``tolerance`` dB in the median, where above 40 dB everything is recovered."""
    if "refused" in before or "refused" in after:
        return before == after
    one, other = (min(float(torch.tensor(side["psnr"]).quantile(0.5)), 40.0) for side in (before, after))
    return abs(one - other) <= tolerance


def test_a_wrong_result_would_be_noticed() -> None:
    right = {"psnr": [20.0] * 8}
    assert same(right, {"psnr": [20.4] * 8}, 1.0)
    assert not same(right, {"psnr": [22.0] * 8}, 1.0)
    assert not same(right, {"refused": "no"}, 1.0)
    assert same({"psnr": [60.0] * 8}, {"psnr": [200.0] * 8}, 1.0)
