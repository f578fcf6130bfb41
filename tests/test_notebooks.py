"""Every chapter keeps the rules of a chapter (chapter_rules.py, chapter_numbers.py)."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from chapter_numbers import typed_numbers
from chapter_rules import MAX_BYTES, RULES, cells_of, outputs_of, text_of

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = [path for path in sorted((ROOT / "chapters").rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
NAMES = [path.relative_to(ROOT / "chapters").as_posix() for path in CHAPTERS]


def test_there_are_chapters():
    assert CHAPTERS, "no notebook found under chapters/"


@pytest.mark.parametrize("path", CHAPTERS, ids=NAMES)
def test_is_a_valid_notebook_of_modest_size(path):
    nbformat.validate(nbformat.read(path, as_version=nbformat.NO_CONVERT))
    assert path.stat().st_size <= MAX_BYTES, f"{path.stat().st_size:,} bytes, at most {MAX_BYTES:,}"


@pytest.mark.parametrize("rule", [*RULES, typed_numbers], ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", CHAPTERS, ids=NAMES)
def test_keeps_the_rule(path, rule):
    complaints = rule(nbformat.read(path, as_version=4))
    assert not complaints, "\n".join(complaints)


def test_every_chapter_is_in_the_table_of_contents():
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    listed = {f"{name}.ipynb" for name in re.findall(r"file: chapters/(\S+)", contents)}
    assert listed == set(NAMES)


def test_the_library_names_only_chapters_that_exist():
    taught = {
        (path.name, chapter)
        for path in (ROOT / "gilib").rglob("*.py")
        for chapter in re.findall(r"Taught in:\s+([\w/]+)", path.read_text(encoding="utf-8"))
    }
    assert len(taught) > 20
    missing = sorted((name, chapter) for name, chapter in taught if f"{chapter}.ipynb" not in NAMES)
    assert not missing


def test_names_of_figures_glue_and_labels_are_unique_in_the_book():
    names: Counter[str] = Counter()
    for path in CHAPTERS:
        notebook = nbformat.read(path, as_version=4)
        for _, cell in cells_of(notebook, "code"):
            names.update(filter(None, [cell.metadata.get("mystnb", {}).get("figure", {}).get("name")]))
        for _, _, output in outputs_of(notebook):
            names.update(filter(None, [output.get("metadata", {}).get("scrapbook", {}).get("name")]))
        for _, cell in cells_of(notebook, "markdown"):
            names.update(_labels(text_of(cell)))
    repeated = [name for name, count in names.items() if count > 1]
    assert not repeated, f"used more than once: {repeated}"


def _labels(text: str) -> list[str]:
    return re.findall(r"(?m)^:label: *(\S+)", text) + re.findall(r"(?m)^\((\S+)\)=\s*$", text)
