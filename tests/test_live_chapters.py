"""Every figure that a chapter lets its readers compute again, in a running kernel: at least one in every part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kernels import Kernel, running_kernel

CHAPTERS = Path(__file__).parents[1] / "chapters"


def cells_to_the_figure(chapter: Path) -> list[str]:
    """The code of a chapter down to its first `explore`; none where it has no such figure."""
    cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    places = [place for place, source in enumerate(sources) if "\nexplore(" in source]
    return sources[: places[0] + 1] if places else []


LIVE = {chapter: cells for chapter in sorted(CHAPTERS.glob("*/*.ipynb")) if (cells := cells_to_the_figure(chapter))}


def test_every_part_has_a_figure_that_is_computed_again():
    parts = {folder.name for folder in CHAPTERS.iterdir() if any(folder.glob("*.ipynb"))}
    assert {chapter.parent.name for chapter in LIVE} == parts


@pytest.mark.parametrize("chapter", LIVE, ids=lambda chapter: f"{chapter.parent.name}/{chapter.stem}")
def test_the_last_of_every_choice_is_computed(chapter):
    *before, figure = LIVE[chapter]
    with running_kernel(chapter.parent) as kernel:
        for cell in before:
            kernel.run(cell)
        kernel.run(figure.replace("\nexplore(", "\nexplored = explore("))
        choose_the_last_of_each(kernel)
        assert "Computed for" in kernel.run("print(explored.status.value)")


def choose_the_last_of_each(kernel: Kernel) -> None:
    """Change the choices one after the other, as a page does; each must be answered by another figure."""
    for name in kernel.run("print(*explored.choices)").split():
        shown = kernel.run("print(explored.scrubber.model_id)")
        choice = f"explored.choices[{name!r}]"
        kernel.change(
            kernel.run(f"print({choice}.model_id)").strip(),
            index=int(kernel.run(f"print(len({choice}.options) - 1)")),
        )
        assert kernel.run("print(explored.scrubber.model_id)") != shown, kernel.run("print(explored.status.value)")
