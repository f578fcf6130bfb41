"""The committed studies: they belong to their settings, say what they need to say, and come back."""

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.studies import device, labels, training
from bench.studies.__main__ import NAMES, RESULTS, cells, main, path
from bench.studies.audit import ChoiceCell
from bench.studies.cells import RankCell, SearchCell, in_groups, nearest, spectrum
from bench.studies.discrete import TableCell
from bench.studies.distributed_privacy import AccuracyCell, SeenCell
from bench.studies.generative import OTHERS, GenerativeCell, victims
from bench.studies.labels import LabelCell
from bench.studies.victims import HELD_OUT, Net, held_out, photographs
from gilib import data, models
from gilib.federated import Client, LocalTraining
from gilib.iteration import inverting_gradients
from gilib.jacobian import jacobian
from gilib.studies import computed, load

SHORT = inverting_gradients(tv=1e-2, iterations=2)
CELL = SearchCell("short", Net("LeNet", 4), SHORT, victims=2)
CHAPTERS = Path(__file__).resolve().parents[2] / "chapters"
CHEAP = 25.0
"""Seconds: cells that took longer are not recomputed by the tests."""


@pytest.mark.parametrize("name", NAMES)
def test_results_belong_to_the_cells(name):
    stored = [one["key"] for one in load(path(name))]
    assert len(set(stored)) == len(stored)
    assert set(stored) <= {cell.key for cell in cells(name)}, (
        f"bench/studies/results/{name}.jsonl does not belong to these settings: run make studies"
    )


def test_what_a_chapter_shows_is_complete():
    texts = "".join(file.read_text(encoding="utf-8") for file in CHAPTERS.glob("*/*.ipynb"))
    shown = set(re.findall(r"bench/studies/results/(\w+)\.jsonl", texts))
    assert shown <= set(NAMES)
    assert shown
    for name in shown:
        missing = {cell.key for cell in cells(name)} - {one["key"] for one in load(path(name))}
        assert not missing, f"{len(missing)} cells of {name} are missing: run make studies"


def test_no_results_without_a_study():
    assert {file.stem for file in RESULTS.glob("*")} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_image_has_all_measures(name):
    for result in load(path(name)):
        if result["settings"]["is"] == "RankCell":
            assert 0 < result["rank"] <= min(result["pixels"], result["parameters"])
        if "own" not in result:
            continue
        settings = result["settings"]
        count = settings["victims"] * settings["batch"] if "victims" in settings else 16 * settings.get("samples", 1)
        assert {len(result[measure]) for measure in ("psnr", "ssim", "nearest", "own")} == {count}
        assert settings["is"] != "SearchCell" or all(own < HELD_OUT for own in result["own"])


@pytest.mark.parametrize(("name", "width", "stage"), [("LeNet", 12, 600), ("ResNet-8", 16, 150)])
def test_trained_networks_know_more_than_untrained_ones(name, width, stage):
    assert Net(name, width, stage).right() > Net(name, width).right() + 0.3


def test_a_random_sample_comes_back():
    draw = random.SystemRandom()
    stored = {one["key"]: one for name in NAMES for one in load(path(name))}
    every = [cell for name in NAMES for cell in cells(name) if cell.key in stored]
    cheap = [cell for cell in every if stored[cell.key]["computed in"] < CHEAP and "card" not in stored[cell.key]]
    for cell in draw.sample(cheap, 3):
        assert same(stored[cell.key], computed(cell)), cell.title


def test_the_processor_finds_what_a_card_found():
    stored = {one["key"]: one for one in load(path("labels")) if "card" in one}
    cell = random.SystemRandom().choice([cell for cell in labels.CELLS if cell.key in stored])
    assert cell.stage == 0
    assert same(stored[cell.key], computed(cell)), cell.title


def same(before: dict, after: dict) -> bool:
    """Whether two results agree as well as float32 searches do on two kinds of processors."""
    if "solved" in before:
        rules = ("right", "solved", "guessed by label")
        means = [[sum(result[rule]) / len(result[rule]) for rule in rules] for result in (before, after)]
        return all(abs(one - other) < 0.08 for one, other in zip(*means, strict=True))
    if "accuracy" in before:
        return abs(before["accuracy"] - after["accuracy"]) < 0.05
    if "psnr" in before:
        one, other = (min(float(torch.tensor(result["psnr"]).quantile(0.5)), 30.0) for result in (before, after))
        return abs(one - other) < 3 and before["own"] == after["own"]
    if "rank" in before:
        return abs(before["rank"] - after["rank"]) <= 0.02 * before["pixels"]
    if "searches" in before:
        chosen = [float(torch.tensor(result["chosen psnr"]).quantile(0.5).clamp(max=30)) for result in (before, after)]
        return abs(chosen[0] - chosen[1]) < 3 and before["searches"].keys() == after["searches"].keys()
    sizes = [name for name in before if name.startswith("batch of")]
    assert sizes, "a result of a new form: say here how two of them are compared"
    return all(abs(before[size][rule] - after[size][rule]) < 0.05 for size in sizes for rule in before[size])


def test_a_wrong_result_would_be_noticed():
    good = {"psnr": [20.0, 21.0, 22.0], "own": [0, 1, 2]}
    assert same(good, {"psnr": [20.5, 21.5, 22.5], "own": [0, 1, 2]})
    assert not same(good, {"psnr": [20.5, 25.5, 26.5], "own": [0, 1, 2]})
    assert not same(good, {"psnr": [20.0, 21.0, 22.0], "own": [0, 1, 3]})
    assert same({"accuracy": 0.9}, {"accuracy": 0.91})
    assert not same({"accuracy": 0.9}, {"accuracy": 0.8})
    assert not same({"batch of 8": {"counts": 0.9}}, {"batch of 8": {"counts": 0.8}})
    assert not same({"rank": 3072, "pixels": 3072}, {"rank": 2900, "pixels": 3072})
    choice = {"searches": {"cosine": {}}, "chosen psnr": [20.0, 21.0, 22.0]}
    assert same(choice, choice | {"chosen psnr": [20.5, 21.5, 22.5]})
    assert not same(choice, choice | {"chosen psnr": [20.5, 25.5, 26.5]})
    assert not same(choice, choice | {"searches": {}})
    rows = {"right": [0.9, 0.7], "solved": [1.0, 1.0], "guessed by label": [0.4, 0.5]}
    assert same(rows, rows | {"right": [0.85, 0.7]})
    assert not same(rows, rows | {"solved": [1.0, 0.6]})
    with pytest.raises(AssertionError, match="new form"):
        same({"something": 1}, {"something": 2})


def test_victims_are_none_of_the_training_images():
    assert {int(label) for label in photographs().batch(range(HELD_OUT)).labels} == set(range(10))
    some = held_out(HELD_OUT - 2, 2, 2)
    assert [len(batch) for batch in some] == [2, 2]
    assert nearest(torch.cat([batch.images for batch in some]), photographs().images).tolist() == [
        HELD_OUT - 2,
        HELD_OUT - 1,
        0,
        1,
    ]
    for first in (0, 3):
        assert len(held_out(first, 1, 10)[0].labels.unique()) == 10


def test_the_people_of_the_generative_study_are_held_out():
    stored = data.load("digits", size=32).images
    held = torch.cat([batch.images for batch in victims("digits")])
    assert nearest(held, stored).min() >= OTHERS
    assert len(nearest(held, stored).unique()) == 16
    assert len(torch.cat([batch.labels for batch in victims("digits")]).unique()) > 6


def test_groups_are_the_same_victims():
    whole = replace(CELL, victims=5, batch=2)
    groups = in_groups(whole, 5, group=2)
    assert [(cell.first, cell.victims) for cell in groups] == [(0, 2), (4, 2), (8, 1)]
    every = [batch.labels for cell in groups for batch in held_out(cell.first, cell.victims, cell.batch)]
    expected = [batch.labels for batch in held_out(0, 5, 2)]
    assert torch.equal(torch.stack(every), torch.stack(expected))


def test_a_search_cell_measures_what_it_says():
    found = CELL.measure()
    assert found["own"] == [0, 1]
    assert all(0 < value < 40 for value in found["psnr"])
    assert CELL.key == SearchCell("short", Net("LeNet", 4), inverting_gradients(tv=1e-2, iterations=2), victims=2).key
    assert len({replace(CELL, first=4).key, replace(CELL, careless=True).key, CELL.key}) == 3


def test_the_careless_attacker_takes_local_steps_for_one():
    local = replace(CELL, local=LocalTraining(3, learning_rate=0.1))
    one, other = local.measure(), replace(local, careless=True).measure()
    assert one["objective"] != other["objective"]
    assert one["length"] == other["length"]


def test_the_projection_keeps_the_rank():
    client = Client(models.convnet(channels=1, size=8, widths=(1, 2), activation="gelu").double())
    batch = data.load("digits").batch([0])
    _, derivative = jacobian(client, batch)
    values = spectrum(client, batch)
    exact = int(torch.linalg.matrix_rank(derivative))
    assert int((values > 1e-10 * values[0]).sum()) == exact < 64


def test_a_hundred_classes_in_both_halves():
    public, private = labels.parts()
    for half in (public, private):
        assert len(half.labels.unique()) == labels.CLASSES
    assert (public.images.flatten(1)[:, None, ::97] != private.images.flatten(1)[None, :, ::97]).any(dim=2).all()
    for size in labels.SIZES:
        for mostly in labels.batches("mostly", size):
            counts = mostly.labels.bincount()
            assert len(mostly) == size == len(mostly.images.flatten(1).unique(dim=0))
            assert min(16, 3 * size // 4) <= counts.max() <= 3 * size // 4 + 4


def test_the_command_says_what_is_missing_and_refuses_unknown_names(capsys):
    assert main(["training", "--missing"]) == 0
    assert f"{len(training.CELLS)} cells" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "no study is called nonsense" in capsys.readouterr().err


def test_a_card_is_refused_where_there_is_none(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        main(["limits", "--missing", "--device", "cuda"])
    assert "PyTorch finds no card here" in capsys.readouterr().err


def test_the_device_is_no_setting(monkeypatch):
    before = CELL.key
    monkeypatch.setenv(device.VARIABLE, "meta")
    assert device.device().type == "meta"
    assert CELL.key == before
    assert next(Net("LeNet", 5).built().parameters()).device.type == "meta"


def test_every_kind_of_cell_is_in_a_study():
    kinds = {type(cell) for name in NAMES for cell in cells(name)}
    assert kinds == {SearchCell, RankCell, LabelCell, AccuracyCell, SeenCell, GenerativeCell, ChoiceCell, TableCell}
