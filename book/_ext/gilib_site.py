"""Sphinx extension of the book.

- "Taught in: foundations/first_leak" at the end of a docstring becomes a link to that chapter.
- Citations in round brackets: Zhu et al. (2019).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sphinx.application import Sphinx
from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle


def readable_defaults(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Write defaults that Python can parse, so that a signature keeps its links and breaks into lines."""
    if signature is None:
        return None
    return re.sub(r"<function (\w+)[^>]*>", r"\1", signature).replace("<factory>", "..."), returns


def link_chapters(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Turn the chapters that a docstring names after "Taught in:" into links, where they exist."""

    def link(match: re.Match[str]) -> str:
        document = f"chapters/{match.group()}"
        return f":doc:`/{document}`" if document in app.env.found_docs else match.group()

    for number, line in enumerate(lines):
        head, separator, tail = line.partition("Taught in:")
        if separator:
            lines[number] = head + separator + re.sub(r"\w+/\w+", link, tail)


def round_brackets() -> BracketStyle:
    """Return the brackets around a year."""
    return BracketStyle(left="(", right=")")


@dataclass
class RoundAuthorYear(AuthorYearReferenceStyle):
    """Cite as Zhu et al. (2019) and (Zhu et al., 2019)."""

    bracket_parenthetical: BracketStyle = field(default_factory=round_brackets)
    bracket_textual: BracketStyle = field(default_factory=round_brackets)
    bracket_author: BracketStyle = field(default_factory=round_brackets)
    bracket_label: BracketStyle = field(default_factory=round_brackets)
    bracket_year: BracketStyle = field(default_factory=round_brackets)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    register_plugin("sphinxcontrib.bibtex.style.referencing", "author_year_round", RoundAuthorYear)
    app.connect("autodoc-process-docstring", link_chapters)
    app.connect("autodoc-process-signature", readable_defaults)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
