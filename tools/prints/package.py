"""The frame of an EPUB 3: its container, the list of its files, and its contents."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass

from tools.prints.order import Part

TITLE = "Gradient Inversion: an executable textbook"
IDENTIFIER = "urn:uuid:6b9f6a2e-5f0e-4d0b-9a1c-2f6f6e2d7c11"
CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="EPUB/package.opf" media-type="application/oebps-package+xml"/></rootfiles></container>
"""
TYPES = {
    ".xhtml": "application/xhtml+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
    ".css": "text/css",
}


@dataclass(frozen=True)
class Chapter:
    """A chapter of the EPUB: its file, its title and its text."""

    name: str
    title: str
    text: str

    def properties(self) -> str:
        """What a reading system must be able to do for it."""
        return " ".join(kind for kind, sign in (("mathml", "<math"), ("svg", "<svg")) if sign in self.text)


def item(number: int, name: str, properties: str = "") -> str:
    """A line of the list of files."""
    kind = TYPES["." + name.rsplit(".", 1)[1]]
    extra = f' properties="{properties}"' if properties else ""
    return f'<item id="item{number}" href="{html.escape(name)}" media-type="{kind}"{extra}/>'


def package(chapters: list[Chapter], others: Iterable[str], modified: str) -> str:
    """The list of files: chapters in their order, ``others`` beside them; ``modified`` as 2026-01-31T12:00:00Z."""
    names = [(one.name, one.properties()) for one in chapters]
    special = {"nav.xhtml": "nav", "cover.png": "cover-image"}
    names += [(name, special.get(name, "")) for name in others]
    items = "\n".join(item(number, name, extra) for number, (name, extra) in enumerate(names))
    spine = "".join(f'<itemref idref="item{number}"/>' for number in range(len(chapters)))
    return f"""<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="book" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="book">{IDENTIFIER}</dc:identifier>
<dc:title>{TITLE}</dc:title><dc:language>en</dc:language><dc:creator>The authors of Gradient Inversion</dc:creator>
<dc:rights>Text: CC BY 4.0. Code: MIT.</dc:rights><meta property="dcterms:modified">{modified}</meta></metadata>
<manifest>
{items}
</manifest>
<spine>{spine}</spine></package>
"""


def contents(parts: list[Part], chapters: dict[str, Chapter]) -> str:
    """The contents; ``chapters`` maps pages of the site to chapters."""

    def lines(part: Part) -> str:
        return "".join(
            f'<li><a href="{chapters[page].name}">{html.escape(chapters[page].title)}</a></li>' for page in part.pages
        )

    entries = "".join(
        f"<li><span>{html.escape(part.caption)}</span><ol>{lines(part)}</ol></li>" if part.caption else lines(part)
        for part in parts
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" lang="en" xml:lang="en">
<head><meta charset="utf-8"/><title>Contents</title></head>
<body><nav epub:type="toc"><h1>Contents</h1><ol>{entries}</ol></nav></body></html>
"""
