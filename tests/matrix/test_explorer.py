"""What the explorer of the matrix is given: every row, in some group, with the strips that belong to it."""

from __future__ import annotations

import pytest
from gilib_live import matrix_data

from gilib.matrix import DEFENSES
from gilib.matrix.pictures import names
from gilib.studies import load

ROWS = [one for one in load(matrix_data.RESULTS) if one["attack"]]


@pytest.fixture(scope="module")
def content():
    return matrix_data.content()


def place(one):
    defense = [entry.name for entry in DEFENSES].index(one["defense"])
    return f"{defense}.{matrix_data.COLUMNS.index((one['scene'], one['attack']))}.{one['stage']}.{one['rounds']}"


def test_every_row_is_there_once(content):
    assert sum(map(len, content["cells"].values())) == len(ROWS)
    for one in ROWS:
        [found] = [some for some in content["cells"][place(one)] if some["seed"] == one["seed"]]
        assert found["right"] == one["right"]
        assert found["adaptive"].get("psnr") == one["adaptive"].get("psnr")
        assert ("refused" in found["adaptive"]) == ("refused" in one["adaptive"])
        assert (
            found.get("plain") == 0
            or not one["differs"]
            or found.get("plain", {}).get("psnr") == one.get("plain", {}).get("psnr")
        )


def test_a_cell_has_the_strips_of_its_key(content):
    strips = {path.name: list(names(path)) for path in matrix_data.SHEETS.glob("*.png")}
    shown = 0
    for one in ROWS:
        [found] = [some for some in content["cells"][place(one)] if some["seed"] == one["seed"]]
        for way, row in found.get("rows", {}).items():
            assert strips[found["sheet"]][row] == f"{one['key']} {way}"
            people = content["sheets"][found["sheet"]]["people"][str(len(one[way]["psnr"]))]
            assert strips[found["sheet"]][people].startswith("victims ")
            shown += 1
    assert shown == sum(not name.startswith("victims ") for some in strips.values() for name in some)


def test_every_attack_and_scene_is_in_words(content):
    assert {one["attack"] for one in content["columns"]} == content["attacks"].keys()
    assert content["attacks"]["Inverting Gradients"] == ["a search of 150 steps", "a search of 100 steps"]
    assert content["attacks"]["Division"][0] == "solves, without a search"
    assert "generator" in content["attacks"]["GIAS"][0]
    assert content["prices"]["digits, LeNet"]["None"]["bytes"] == 15016
    assert len(content["prices"]["digits, MLP"]["Signs"]["right"]) == 5
