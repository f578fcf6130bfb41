"""What a page says of itself in its head: title, description, and what a link to it shows elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from docutils import nodes

from gilib_publish.settings import Site

LONGEST = 160
ENOUGH = 90
PREVIEW = "_static/preview.png"
PREVIEW_SIZE = (1200, 630)
SIGNS = {r"\varepsilon": "ε", r"\epsilon": "ε", r"\delta": "δ", r"\partial": "∂", r"\nabla": "∇", r"\times": "×"}


def plain(node: nodes.Node) -> str:
    """The text of a paragraph on one line, formulas as far as signs go."""
    if isinstance(node, nodes.math):
        formula = node.astext()
        for name, sign in SIGNS.items():
            formula = formula.replace(name, sign)
        return re.sub(r"[\\{}$]", "", formula)
    if isinstance(node, (nodes.footnote_reference, nodes.raw, nodes.image)):
        return ""
    if isinstance(node, nodes.Text):
        return str(node)
    return "".join(plain(child) for child in node.children)


def shortened(text: str) -> str:
    """A text cut to what a search engine shows: after a sentence where one ends late enough, else after a word."""
    text = " ".join(text.split())
    if len(text) <= LONGEST:
        return text
    ends = [match.end() for match in re.finditer(r"[.?!](?= )", text[: LONGEST + 1])]
    if ends and ends[-1] >= ENOUGH:
        return text[: ends[-1]]
    return text[: LONGEST - 1].rpartition(" ")[0].rstrip(",;:–") + " …"


def own_description(page: nodes.document) -> str:
    """The description that a page gives in its front matter, under ``myst: html_meta: description``; or nothing."""
    return next((meta["content"] for meta in page.findall(nodes.meta) if meta.get("name") == "description"), "")


def description(page: nodes.document) -> str:
    """What a page is about: what it says itself, or its first paragraphs as plain text of at most 160 characters."""
    own = own_description(page)
    if own:
        return own
    text = ""
    for paragraph in page.findall(nodes.paragraph):
        if isinstance(paragraph.parent, (nodes.section, nodes.document)):
            text = f"{text} {plain(paragraph)}".strip()
        if len(text) >= ENOUGH:
            break
    return shortened(text)


def tags(title: str, about: str, book: str, place: str, site: Site) -> Iterable[tuple[str, str, str]]:
    """The tags of a page as attribute, name and content; ``place`` is its address, empty where it has none."""
    yield "property", "og:type", "website" if title == book else "article"
    yield "property", "og:title", title
    yield "property", "og:description", about
    yield "property", "og:site_name", book
    if not place:
        return
    yield "property", "og:url", place
    yield "property", "og:image", site.address + PREVIEW
    yield "property", "og:image:width", str(PREVIEW_SIZE[0])
    yield "property", "og:image:height", str(PREVIEW_SIZE[1])
    yield "property", "og:image:alt", "Photographs, and below each what a server reconstructed from its gradient"
    yield "name", "twitter:card", "summary_large_image"


def written(found: Iterable[tuple[str, str, str]]) -> str:
    """Tags as HTML."""
    return "".join(f'\n    <meta {kind}="{name}" content="{html.escape(value)}" />' for kind, name, value in found)
