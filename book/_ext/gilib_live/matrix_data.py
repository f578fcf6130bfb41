"""What the explorer of the matrix shows: one script of numbers, and the sheets of pictures beside it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from gilib.matrix import DEFENSES, AttackEntry, Drawn, Search, plan
from gilib.matrix.pictures import names
from gilib.studies import Result, load
from gilib.widgets import SHADES, shade

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "bench" / "matrix.jsonl"
SHEETS = ROOT / "bench" / "matrix-pictures"
FOLDER = "_static/gilib-matrix"
NAME = f"{FOLDER}/data.js"

INVERTING = plan.INVERTING.name
GROUPS = {
    "digits, one image each": (
        *[("digits, LeNet", one.name) for one in (plan.INVERTING, plan.LINEAR, plan.DLG, plan.GIAS)],
        ("digits, ConvNet", plan.RGAP.name),
        *[("digits, MLP", one.name) for one in (plan.DIVISION, plan.SPEAR)],
    ),
    "digits, four images each": (
        ("digits, LeNet, fours", INVERTING),
        *[("digits, MLP, fours", one.name) for one in (plan.DIVISION, plan.SPEAR)],
    ),
    "digits, three widths": tuple((scene, INVERTING) for scene in ("digits, LeNet", *[s.name for s in plan.WIDE])),
    "photographs": tuple((one.name, plan.SMOOTH.name) for one in (plan.PHOTOS, plan.PHOTOS_FOURS, plan.RESNET)),
}
COLUMNS = list(dict.fromkeys(column for columns in GROUPS.values() for column in columns))
ATTACKS = (
    *(plan.INVERTING, plan.LINEAR, plan.DLG, plan.GIAS, plan.SMOOTH),
    *(plan.RGAP, plan.DIVISION, plan.SPEAR),
)


@cache
def version() -> str:
    """Changes with the numbers and with the pictures."""
    parts = [RESULTS, *sorted(SHEETS.glob("*.png"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()[:10]


def shades() -> list[tuple[str, str]]:
    """The colours of a cell and its ink, from nobody to everybody."""
    return [shade(place / (len(SHADES) - 1)) for place in range(len(SHADES))]


def content() -> dict[str, Any]:
    """All that the explorer shows, as JSON data."""
    results = load(RESULTS)
    sheets = {path.name: names(path) for path in sorted(SHEETS.glob("*.png"))}
    rows = {name: {"of": sheet, "row": row} for sheet, strips in sheets.items() for row, name in enumerate(strips)}
    cells: dict[str, list[dict[str, Any]]] = {}
    order = {one.name: place for place, one in enumerate(DEFENSES)}
    for one in results:
        column = one["scene"], one["attack"]
        if column in COLUMNS:
            place = (order[one["defense"]], COLUMNS.index(column), one["stage"], one["rounds"])
            cells.setdefault(".".join(map(str, place)), []).append(_cell(one, rows))
    return {
        "defenses": [{"name": one.name, "strength": one.strength, "looks": one.adversary} for one in DEFENSES],
        "columns": [{"attack": attack, "network": _network(scene), "scene": scene} for scene, attack in COLUMNS],
        "groups": [[COLUMNS.index(column) for column in columns] for columns in GROUPS.values()],
        "attacks": {one.name: [_words(one, rounds) for rounds in (1, 16)] for one in ATTACKS},
        "prices": _prices(results),
        "shades": shades(),
        "sheets": {name: _layout(strips) for name, strips in sheets.items()},
        "cells": cells,
    }


def write(site: Path) -> None:
    """Write the script and the sheets into a built site."""
    (site / FOLDER).mkdir(parents=True, exist_ok=True)
    text = json.dumps(content(), separators=(",", ":"), ensure_ascii=False)
    (site / NAME).write_text(f"gilibLive.matrixData = {text};\n", encoding="utf-8")
    for path in SHEETS.glob("*.png"):
        shutil.copyfile(path, site / FOLDER / path.name)


def _cell(one: Result, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One row: without ``plain`` that attacker was not measured, and as 0 it finds what the adaptive one does."""
    made: dict[str, Any] = {"seed": one["seed"], "right": one["right"], "adaptive": _found(one["adaptive"])}
    if not one["differs"]:
        made["plain"] = 0
    elif "plain" in one:
        made["plain"] = _found(one["plain"])
    pictures = {way: rows[name] for way in ("adaptive", "plain") if (name := f"{one['key']} {way}") in rows}
    if pictures:
        made["sheet"] = next(iter(pictures.values()))["of"]
        made["rows"] = {way: place["row"] for way, place in pictures.items()}
    return made


def _found(some: dict[str, Any]) -> dict[str, Any]:
    if "refused" in some:
        return {"refused": some["refused"]}
    return {"psnr": some["psnr"], **{name: "".join(map(str, some[name])) for name in ("named", "read")}}


def _layout(strips: dict[str, int]) -> dict[str, Any]:
    """How many strips and images a sheet has, and where its people are."""
    people = {str(count): row for row, (name, count) in enumerate(strips.items()) if name.startswith("victims ")}
    return {"strips": len(strips), "images": max(strips.values()), "people": people}


def _network(scene: str) -> str:
    name = scene.partition(", ")[2]
    return name if scene.startswith("photographs") else name.removesuffix(", fours")


def _words(attack: AttackEntry, rounds: int) -> str:
    """What an attack does, in a few words."""
    if isinstance(attack, Drawn):
        steps = dict(attack.options)
        return f"a search of {steps['iterations']} steps in a generator and {steps['weight_iterations']} in its weights"
    if not isinstance(attack, Search):
        return "solves, without a search" if rounds == 1 else "solves each round, and takes the median of each pixel"
    steps = attack.attack.iterations  # type: ignore[union-attr]
    return f"a search of {steps if rounds == 1 else min(steps, attack.patient)} steps"


def _prices(results: Iterable[Result]) -> dict[str, dict[str, Any]]:
    """Accuracy in percent, training by training, and bytes: by scene and defense."""
    prices: dict[str, dict[str, Any]] = {}
    for one in results:
        if one["attack"] is None and not one["scene"].startswith("public"):
            place = prices.setdefault(one["scene"], {}).setdefault(one["defense"], {"right": [], "bytes": one["bytes"]})
            place["right"].append(round(100 * one["accuracy"], 2))
    return prices
