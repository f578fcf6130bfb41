"""What came back, to look at: the images of a part of the matrix as grey bytes, in one PNG for each attack and scene.

A sheet has a strip of images for each cell and attacker, and one for the people. The names of the strips stand in the
file itself, so that a sheet is replaced in one step and an interruption loses the cell under way only.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from gilib.matrix.measure import AttackCell, returned, victims
from gilib.studies import Result

Strips = dict[str, np.ndarray]
Progress = Callable[[int, int, AttackCell], None]

_NAMES = "strips"


def ways(result: Result) -> list[str]:
    """The attackers of a cell's result whose images there are: one where both come to the same."""
    found = ["adaptive", "plain"] if result["differs"] and "plain" in result else ["adaptive"]
    return [way for way in found if "refused" not in result[way]]


def sheet(cell: AttackCell) -> str:
    """The file name of the sheet on which a cell's images are."""
    words = f"{cell.scene.name} {cell.attack.name} {cell.rounds}".lower().replace(",", "")
    return "-".join(words.split()) + ".png"


def strip(cell: AttackCell, way: str) -> str:
    """The name of a strip: what one attacker found, or with ``way`` "victims" the people that both looked for."""
    return f"victims {len(cell.defense.victims(cell.scene))}" if way == "victims" else f"{cell.key} {way}"


def names(path: Path) -> dict[str, int]:
    """The names of a sheet's strips, from the top, and how many images each has.

    Raises ValueError for a picture that is no sheet.
    """
    with Image.open(path) as image:
        text = getattr(image, "text", {}).get(_NAMES)
    if text is None:
        raise ValueError(f"{path} is no sheet of the matrix: it does not name its strips. Delete it and run again.")
    found: dict[str, int] = json.loads(text)
    return found


def read(path: Path) -> Strips:
    """The strips of a sheet by their names, each (images, H, W) of bytes; none where there is no file.

    Raises ValueError for a picture that is no sheet.
    """
    if not path.exists():
        return {}
    counts = names(path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"))
    side = len(pixels) // len(counts)
    return {
        name: pixels[place * side : (place + 1) * side, : count * side].reshape(side, count, side).swapaxes(0, 1)
        for place, (name, count) in enumerate(counts.items())
    }


def write(path: Path, strips: Strips) -> None:
    """Replace a sheet in one step."""
    side = next(iter(strips.values())).shape[-1]
    pixels = np.zeros((side * len(strips), side * max(map(len, strips.values()))), dtype=np.uint8)
    for place, images in enumerate(strips.values()):
        pixels[place * side : (place + 1) * side, : len(images) * side] = images.swapaxes(0, 1).reshape(side, -1)
    info = PngInfo()
    info.add_text(_NAMES, json.dumps({name: len(images) for name, images in strips.items()}), zip=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    Image.fromarray(pixels).save(fresh, "PNG", optimize=True, pnginfo=info)
    fresh.replace(path)


def as_bytes(images: Tensor) -> np.ndarray:
    """Grey images (B, 1, H, W) in [0, 1] as bytes (B, H, W)."""
    return (255 * images[:, 0]).round().byte().cpu().numpy()


def drawn(cell: AttackCell, result: Result) -> Strips:
    """The strips of one cell, computed by one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        view = cell.view()
        found = {way: returned(cell.defense, cell.attack, view, way) for way in ways(result)}
    finally:
        torch.set_num_threads(threads)
    found["victims"] = victims(cell.defense, cell.scene)
    return {strip(cell, way): as_bytes(images) for way, images in found.items()}


def missing(cells: Sequence[AttackCell], results: dict[str, Result], folder: Path) -> Iterator[AttackCell]:
    """The cells whose images the sheets in ``folder`` do not have yet.

    ``results`` are those of the matrix by their keys. Raises ValueError where a cell has none.
    """
    there = {name: set(read(folder / name)) for name in {sheet(cell) for cell in cells}}
    for cell in cells:
        if cell.key not in results:
            raise ValueError(f"the matrix has no result for {cell.title!r}: run python -m gilib.matrix first.")
        if not {strip(cell, way) for way in ways(results[cell.key])} <= there[sheet(cell)]:
            yield cell


def draw(cells: Sequence[AttackCell], results: dict[str, Result], folder: Path, progress: Progress) -> None:
    """Compute the images that the sheets in ``folder`` lack, one cell after another, in the order of ``cells``.

    Strips of no cell are dropped. ``progress(done, missing, cell)`` is called after each cell.
    """
    order: dict[str, list[str]] = {}
    for cell in cells:
        planned = order.setdefault(sheet(cell), [])
        planned += [strip(cell, way) for way in ("victims", *ways(results[cell.key]))]
    todo = list(missing(cells, results, folder))
    for done, cell in enumerate(todo, start=1):
        path = folder / sheet(cell)
        strips = read(path) | drawn(cell, results[cell.key])
        write(path, {name: strips[name] for name in dict.fromkeys(order[sheet(cell)]) if name in strips})
        progress(done, len(todo), cell)
