"""Small pieces of HTML: links, cells, plain tables."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def link(address: str, text: str, **attributes: str) -> str:
    """A link; the text is escaped."""
    more = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    return f'<a href="{escape(address)}"{more}>{escape(text)}</a>'


def chapter_links(names: Iterable[str]) -> str:
    """Links from ``book/catalogue`` to chapters, by their names."""
    return ", ".join(link(f"../chapters/{name}.html", name) for name in names)


def table(head: list[str], lines: list[list[str]]) -> str:
    """A table; the cells are HTML."""
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "\n".join("<tr>" + "".join(f"<td>{text}</td>" for text in line) + "</tr>" for line in lines)
    return f'<table class="table"><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table>'
