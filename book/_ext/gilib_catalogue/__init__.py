"""Sphinx extension: the page ``book/catalogue`` from ``book/catalogue.csv``, the library's docstrings and the chapters.

- ``{catalogue} table`` and other parts (``PARTS``) stand as directives in the page.
- ``{catalogue}`works``` in a sentence is the number of works; ``Catalogue.numbers`` names the others.
- The page gets its own script and style, and the files to download beside it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from gilib_catalogue import pictures, table, tables
from gilib_catalogue.collected import Catalogue, collect
from gilib_catalogue.downloads import files
from gilib_catalogue.works import ROOT

PAGE = "book/catalogue"
PARTS = {
    "form": lambda of: table.form(of.works),
    "files": lambda of: table.files(),
    "table": lambda of: table.table(of.works, of.here),
    "map": lambda of: pictures.taxonomy_map(of.works, of.here),
    "years": lambda of: pictures.years(of.works),
    "gradattack": lambda of: tables.gradattack(of.works, of.here, of.chapters),
    "surveys": lambda of: tables.surveys(of.works, of.here),
    "lists": lambda of: tables.provenance(of.works),
}


@cache
def catalogue() -> Catalogue:
    """The catalogue, read once a build."""
    return collect()


def depends_on() -> list[str]:
    """The files that the page is made from."""
    chapters = [f"chapters/{name}.ipynb" for name in catalogue().chapters]
    library = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "gilib").rglob("*.py"))]
    ours = [
        f"book/{name}" for name in ("catalogue.csv", "catalogue-tables.csv", "catalogue-lists.csv", "references.bib")
    ]
    code = [path.relative_to(ROOT).as_posix() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return [*ours, *chapters, *library, *code, "_toc.yml"]


class Part(Directive):
    """A part of the page, by its name."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in PARTS:
            raise self.error(f"expected one of {', '.join(PARTS)}; got {name}")
        for path in depends_on():
            self.state.document.settings.env.note_dependency(path)
        return [nodes.raw("", PARTS[name](catalogue()), format="html")]


def number(
    name: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = ()
) -> Any:
    """The role that writes a number."""
    known = catalogue().numbers()
    if text not in known:
        return [], [inliner.reporter.error(f"expected one of {', '.join(known)}; got {text}", line=lineno)]
    return [nodes.Text(str(known[text]))], []


def add_own_files(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Give the page its script and style."""
    if pagename == PAGE:
        app.add_css_file("gilib-catalogue.css", priority=900)
        app.add_js_file("gilib-catalogue.js", priority=900, defer="defer")


def write_files(app: Sphinx, exception: Exception | None) -> None:
    """Write the files to download beside the page."""
    if exception is None and app.builder.format == "html" and PAGE in app.env.found_docs:
        of = catalogue()
        for name, text in files(of.works, of.here, of.references).items():
            (Path(app.outdir) / PAGE).with_name(name).write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("catalogue", Part)
    app.add_role("catalogue", number)
    app.connect("html-page-context", add_own_files)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
