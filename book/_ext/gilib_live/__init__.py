"""Sphinx extension: experiments that run in the reader's browser.

``{live} leak`` puts the live leak into a page, ``{live} division`` the division of a dense layer, ``{live} matrix`` the
explorer of the matrix. Where scripts are off, and in print, the content of the directive stands in its place. A page
without an experiment loads nothing of it.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from gilib_live import division, leak, matrix, matrix_data

# The scripts in book/_static/gilib-live, each after those that it needs.
NETWORK = ["random", "convolution", "lenet", "lbfgs"]
PAGE = ["worker", "picture", "curve", "sources"]
EXPERIMENTS = {
    "leak": (leak.markup, ["modules", *NETWORK, "client", "server", *PAGE, "leak"]),
    "division": (division.markup, ["modules", "random", "dense", "picture", "division"]),
    "matrix": (matrix.markup, ["modules", "heat", "people", "matrix"]),
}
MADE_FROM = {"matrix": [matrix_data.RESULTS, *sorted(matrix_data.SHEETS.glob("*.png"))]}


class Live(Directive):
    """An experiment, by its name; the content says what a reader without scripts needs to know."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in EXPERIMENTS:
            raise self.error(f"expected one of {', '.join(EXPERIMENTS)}; got {name}")
        if not self.content:
            raise self.error("expected a text for readers whose browser runs no scripts")
        environment = self.state.document.settings.env
        environment.metadata[environment.docname].setdefault("gilib_live", []).append(name)
        for path in MADE_FROM.get(name, []):
            environment.note_dependency(str(path))
        instead = nodes.container(classes=["gilib-live-instead"])
        self.state.nested_parse(self.content, self.content_offset, instead)
        return [nodes.raw("", EXPERIMENTS[name][0](), format="html"), instead]


def scripts_of(names: list[str]) -> list[str]:
    """The scripts of these experiments, each once, in order."""
    return list(dict.fromkeys(script for name in names for script in EXPERIMENTS[name][1]))


def add_own_files(app: Sphinx, pagename: str, templatename: str, context: dict[str, object], doctree: object) -> None:
    """Give a page the scripts and the style of its experiments."""
    names = app.env.metadata.get(pagename, {}).get("gilib_live", [])
    if names:
        app.add_css_file("gilib-live/live.css", priority=900)
    if "matrix" in names:
        app.add_css_file("gilib-live/matrix.css", priority=900)
    for script in scripts_of(names):
        app.add_js_file(f"gilib-live/{script}.js", priority=900, defer="defer")


def write_data(app: Sphinx, exception: Exception | None) -> None:
    """Write what the explorer of the matrix fetches when somebody comes near it."""
    names = [name for page in app.env.metadata.values() for name in page.get("gilib_live", [])]
    if exception is None and app.builder.format == "html" and "matrix" in names:
        matrix_data.write(Path(app.outdir))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("live", Live)
    app.connect("html-page-context", add_own_files)
    app.connect("build-finished", write_data)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
