"""The pictures of the matrix: they are what the rows measured, come back, and a broken-off run goes on."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matrix.small import NONE, SCENE, Guess
from PIL import Image

from gilib import metrics
from gilib.matrix import AttackCell, pictures
from gilib.matrix.measure import victims
from gilib.matrix.plan import pictured
from gilib.studies import load

BENCH = Path(__file__).resolve().parents[2] / "bench"
SHEETS = BENCH / "matrix-pictures"
ROWS = {one["key"]: one for one in load(BENCH / "matrix.jsonl")}
CELLS = pictured()
SAMPLE, SLOW = 3, 8.0
ROUNDED = 0.5 / 255  # how far a byte is from its number, and so, in the mean square, a picture from its images


@pytest.fixture(scope="module")
def stored():
    return {name: pictures.read(SHEETS / name) for name in {pictures.sheet(cell) for cell in CELLS}}


def there(cell, stored):
    """The stored strips of a cell, by attacker."""
    strips = stored[pictures.sheet(cell)]
    names = {way: pictures.strip(cell, way) for way in pictures.ways(ROWS[cell.key])}
    return {way: strips[name] for way, name in names.items() if name in strips}


def off(images, cell):
    """The root mean square error of bytes (B, H, W), image by image."""
    found = torch.tensor(images.copy())[:, None].double() / 255
    return metrics.mse(found, victims(cell.defense, cell.scene)).sqrt()


def test_every_picture_has_the_psnr_of_its_person_in_the_row(stored):
    count = 0
    for cell in CELLS:
        for way, images in there(cell, stored).items():
            psnr = torch.tensor(ROWS[cell.key][way]["psnr"], dtype=torch.float64)
            low, high = (10 ** (-(psnr + edge) / 20) for edge in (0.0051, -0.0051))
            assert (off(images, cell) <= high + ROUNDED).all(), f"{cell.title}, {way}"
            assert (off(images, cell) >= low - ROUNDED).all(), f"{cell.title}, {way}"
            count += len(images)
    assert count > 1_000


def test_another_attackers_pictures_would_be_noticed(stored):
    cell = next(one for one in CELLS if one.defense.name == "MixUp" and one.attack.name == "Division")
    found = there(cell, stored)
    psnr = torch.tensor(ROWS[cell.key]["adaptive"]["psnr"])
    assert (off(found["plain"], cell) > 10 ** (-psnr / 20) + ROUNDED).all()


def test_the_people_are_in_every_sheet(stored):
    for cell in CELLS:
        if there(cell, stored):
            people = stored[pictures.sheet(cell)][pictures.strip(cell, "victims")]
            assert np.array_equal(people, pictures.as_bytes(victims(cell.defense, cell.scene)))


def test_a_random_sample_of_the_pictures_comes_back(stored):
    cheap = [one for one in CELLS if there(one, stored) and one.stage == 0 and ROWS[one.key]["computed in"] < SLOW]
    for cell in random.SystemRandom().sample([one for one in cheap if one.attack.name != "DLG"], SAMPLE):
        again = pictures.drawn(cell, ROWS[cell.key])
        for way, images in there(cell, stored).items():
            first, second = (
                metrics.psnr(torch.tensor(some)[:, None].double() / 255, victims(cell.defense, cell.scene))
                for some in (images.copy(), again[pictures.strip(cell, way)].copy())
            )
            median = abs(first.clamp(max=40).quantile(0.5) - second.clamp(max=40).quantile(0.5))
            assert median <= 2.0, f"{cell.title}, {way}"


def small_cells():
    scene = replace(SCENE, people=2)
    return [AttackCell(scene, NONE, Guess(level=level), stage=0) for level in (0.0, 1.0)]


def test_a_run_goes_on_where_it_broke_off_and_drops_what_no_cell_has(tmp_path):
    cells, said = small_cells(), []
    results = {cell.key: {"differs": False, "adaptive": {}} for cell in cells}
    pictures.draw(cells[:1], results, tmp_path, lambda *news: said.append(news))
    pictures.draw(cells, results, tmp_path, lambda *news: said.append(news))
    assert said == [(1, 1, cells[0]), (1, 1, cells[1])]
    assert not list(pictures.missing(cells, results, tmp_path))
    strips = pictures.read(tmp_path / pictures.sheet(cells[0]))
    assert list(strips) == ["victims 2", f"{cells[0].key} adaptive", f"{cells[1].key} adaptive"]
    assert [strip.shape for strip in strips.values()] == [(2, 8, 8)] * 3
    assert (strips[f"{cells[0].key} adaptive"] == 0).all()
    assert (strips[f"{cells[1].key} adaptive"] == 255).all()
    assert np.array_equal(strips["victims 2"], pictures.as_bytes(victims(NONE, cells[0].scene)))
    other = replace(cells[0], attack=Guess(level=0.25))
    results[other.key] = results[cells[0].key]
    pictures.draw([other], results, tmp_path, lambda *news: None)
    assert list(pictures.read(tmp_path / pictures.sheet(other))) == ["victims 2", f"{other.key} adaptive"]


def test_what_refuses_or_comes_to_the_same_has_no_picture_of_its_own():
    answer = {"psnr": [1.0]}
    assert pictures.ways({"differs": True, "plain": answer, "adaptive": answer}) == ["adaptive", "plain"]
    assert pictures.ways({"differs": False, "plain": answer, "adaptive": answer}) == ["adaptive"]
    assert pictures.ways({"differs": True, "plain": answer, "adaptive": {"refused": "no"}}) == ["plain"]
    assert pictures.ways({"differs": True, "adaptive": {"refused": "no"}}) == []


def test_pictures_say_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match=r"run python -m gilib\.matrix first"):
        list(pictures.missing(small_cells(), {}, tmp_path))
    Image.new("L", (8, 8)).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match="no sheet of the matrix"):
        pictures.read(tmp_path / "other.png")
