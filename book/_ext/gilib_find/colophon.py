"""Who wrote the book, and which version this is: from ``CITATION.cff`` and the library."""

from __future__ import annotations

import ast
from html import escape

import yaml
from gilib_catalogue.works import ROOT

CITATION = ROOT / "CITATION.cff"
LIBRARY = ROOT / "gilib" / "__init__.py"


def authors() -> list[str]:
    """The authors, as one cites them."""
    people = yaml.safe_load(CITATION.read_text(encoding="utf-8"))["authors"]
    return [one.get("name") or " ".join((one["given-names"], one["family-names"])) for one in people]


def version() -> str:
    """The version of the library, which is that of the book. Raises LookupError where the library states none."""
    for node in ast.parse(LIBRARY.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    raise LookupError(f"{LIBRARY}: expected __version__ = '...', found none")


def markup() -> str:
    """Both as a line."""
    said = f"{escape(', '.join(authors()))} · version {escape(version())}"
    return f'<p class="gilib-colophon">{said} · <a href="citing.html">how to cite</a></p>'
