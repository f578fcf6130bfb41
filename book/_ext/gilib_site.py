"""Sphinx extension of the book.

- A strip of pictures where a figure that moves cannot move. A widget needs scripts, so under each one stand up to six
  of its frames as plain pictures, from the state stored in the notebook. The style sheet hides them where scripts run,
  and shows them instead of the widget where they do not, and in print.
- "Taught in: foundations/first_leak" at the end of a docstring becomes a link to that chapter.
- Citations in round brackets: Zhu et al. (2019).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
STRIP = 6


def evenly(items: list[str], count: int) -> list[str]:
    """Pick at most ``count`` of ``items``, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def frames_of(state: dict[str, Any], model_id: str) -> list[str]:
    """Return the HTML of every frame below the widget ``model_id``, in order."""
    model = state.get(model_id, {}).get("state", {})
    if model.get("_model_name") == "HTMLModel" and 'class="gilib-frame"' in model.get("value", ""):
        return [model["value"]]
    children = [child.removeprefix("IPY_MODEL_") for child in model.get("children", [])]
    return [frame for child in children for frame in frames_of(state, child)]


def add_strips(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put a strip after every widget of the page."""
    source = Path(app.env.doc2path(docname))
    views = [node for node in doctree.findall(nodes.raw) if VIEW in node.astext()]
    if not views or source.suffix != ".ipynb":
        return
    state = (
        json.loads(source.read_text(encoding="utf-8"))["metadata"].get("widgets", {}).get(STATE, {}).get("state", {})
    )
    for view in views:
        text = view.astext()
        model_id = json.loads(text[text.index("{") : text.rindex("}") + 1])["model_id"]
        frames = evenly(frames_of(state, model_id), STRIP)
        if frames:
            strip = nodes.raw("", f'<div class="gilib-strip">{"".join(frames)}</div>', format="html")
            view.parent.insert(view.parent.index(view) + 1, strip)


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
    app.connect("doctree-resolved", add_strips)
    app.connect("autodoc-process-docstring", link_chapters)
    app.connect("autodoc-process-signature", readable_defaults)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
