"""The table of the page "Find an attack or defense", as Markdown: Sphinx complains where a page or name is missing."""

from __future__ import annotations

from gilib_find import contents
from gilib_find.known import Known, everything

HEADS = ("Name", "Kind", "First in", "What it needs", "Chapter", "In the library")


def lines() -> list[str]:
    """The table, line by line. A method whose chapter is not in the table of contents yet waits for it."""
    numbered = contents.chapters()
    taught = [one for one in everything() if f"chapters/{one.chapter}" in numbered]
    return [_line(HEADS), _line(["---"] * len(HEADS)), *(row(one, numbered) for one in taught)]


def row(one: Known, numbered: dict[str, contents.Chapter]) -> str:
    """One method."""
    chapter = numbered[f"chapters/{one.chapter}"]
    names = ", ".join([f"**{one.names[0]}**", *one.names[1:]])
    said = f"{{doc}}`{chapter.number} {chapter.name} </{chapter.document}>`"
    function = f"{{py:obj}}`{one.where.split('.')[-1]} <{one.where}>`"
    return _line([names, one.kind, one.source, one.needs, said, function])


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
