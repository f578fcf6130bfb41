"""Sphinx extension: names of gilib in the code of a chapter lead to their API pages.

The imports of a chapter say what a name stands for; the Python domain of Sphinx knows where it is documented.
"""

from __future__ import annotations

import ast
import html
import json
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

PACKAGE = "gilib"
NAME = r'<span class="(?:n|nn|nc|nf)">[\w.]+</span>'
CHAIN = re.compile(rf'{NAME}(?:<span class="o">\.</span>{NAME})*')
BLOCK = re.compile(r'(?s)<div class="highlight-(?:ipython3|python|ipython)[^"]*">.*?</pre>')


def imports_of(sources: list[str]) -> dict[str, str]:
    """Map the names that the cells import from the package to what they stand for."""
    names: dict[str, str] = {}
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:  # a cell with a magic
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {a.asname or a.name.split(".")[0]: a.name if a.asname else PACKAGE for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return {name: full for name, full in names.items() if full.split(".")[0] == PACKAGE}


def sources_of(path: Path) -> list[str]:
    """Return the code cells of a notebook; none where the page is no notebook."""
    if path.suffix != ".ipynb":
        return []
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def resolve(written: str, names: dict[str, str]) -> str:
    """Return the full name that ``written`` stands for; the empty string where it is no name of the package."""
    head, _, tail = written.partition(".")
    return "" if head not in names else names[head] + ("." + tail if tail else "")


def add_links(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Wrap the names in the code of a page in links."""
    if doctree is None or "body" not in context:
        return
    names = imports_of(sources_of(Path(app.env.doc2path(pagename))))
    if not names:
        return
    places = {
        name: f"{app.builder.get_relative_uri(pagename, document)}#{anchor}"
        for name, _, kind, document, anchor, _ in app.env.get_domain("py").get_objects()
        if kind != "module"
    }

    def link(match: re.Match[str]) -> str:
        full = resolve(html.unescape(re.sub(r"<[^>]+>", "", match.group())), names)
        if full not in places:
            return match.group()
        return f'<a class="code-link" href="{places[full]}" title="{full}">{match.group()}</a>'

    context["body"] = BLOCK.sub(lambda block: CHAIN.sub(link, block.group()), context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", add_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
