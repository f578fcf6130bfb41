"""Sphinx extension: what a reader looks for is found by the names of the field, and links to it are short.

- ``{find} table`` puts every attack, defense and analysis of the library into a page: names, needs, chapter, function.
- The search and the general index know these names, and the search shows chapters before functions.
- ``{doc}`` without a text of its own reads "chapter 2" (``links``).
- ``{find} parts`` draws the parts of the book, ``{find} colophon`` says who wrote which version.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

from gilib_find import colophon, contents, known, links, parts, searching, table

RAW: dict[str, Callable[[], str]] = {"parts": parts.markup, "colophon": colophon.markup}
CHAPTER_CELL = re.compile(r'<td>(?=<p><a class="reference internal" href="[^"]*"><span class="doc">(\d+) )')
MADE_FROM = {"parts": list, "colophon": lambda: [colophon.CITATION, colophon.LIBRARY]}


class Find(Directive):
    """A piece of a page, by its name: ``table``, ``parts`` or ``colophon``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        environment = self.state.document.settings.env
        for path in [contents.CONTENTS, *MADE_FROM.get(name, known.files)()]:
            environment.note_dependency(str(path))
        environment.metadata[environment.docname].setdefault("gilib_find", []).append(name)
        if name in RAW:
            return [nodes.raw("", RAW[name](), format="html")]
        if name != "table":
            raise self.error(f"expected one of table, {', '.join(RAW)}; got {name}")
        box = nodes.container()
        self.state.nested_parse(StringList(table.lines(), "gilib_find"), self.content_offset, box)
        for one in box.findall(nodes.table):
            one["classes"] += ["sortable", "asc", "gilib-filter", "gilib-find"]
        return box.children


def add_own_files(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Give the page of the search its script, pages of ours their style; chapters sort by number, not by letter."""
    here = app.env.metadata.get(pagename, {}).get("gilib_find", [])
    if here or pagename == "search":
        app.add_css_file("gilib-find.css", priority=900)
    if "table" in here:
        context["body"] = CHAPTER_CELL.sub(r'<td data-sort="\1">', context["body"])
    if pagename == "search":
        app.add_js_file("gilib-search.js", priority=910, defer="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("find", Find)
    app.add_post_transform(links.ShortLinks)
    app.connect("config-inited", searching.use_scorer)
    app.connect("env-updated", searching.enter_names, priority=600)  # after Sphinx has numbered the chapters
    app.connect("env-updated", links.numbers_changed, priority=600)
    app.connect("doctree-resolved", searching.name_page)
    app.connect("html-page-context", add_own_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
