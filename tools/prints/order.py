"""The pages of the book in the order of ``_toc.yml``, by the addresses that they have in the site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"


@dataclass(frozen=True)
class Part:
    """A part of the book: its caption, empty for the landing page alone, and its pages."""

    caption: str
    pages: tuple[str, ...]


def pages_below(entry: dict[str, Any]) -> Iterator[str]:
    """The page of an entry and the pages of its sections."""
    yield f"{entry['file']}.html"
    for section in entry.get("sections", []):
        yield from pages_below(section)


def parts_of(toc: Path = ROOT / "_toc.yml") -> list[Part]:
    """The parts of the book; the first one is the landing page."""
    read = yaml.safe_load(toc.read_text(encoding="utf-8"))
    parts = [
        Part(part["caption"], tuple(page for chapter in part["chapters"] for page in pages_below(chapter)))
        for part in read["parts"]
    ]
    return [Part("", (f"{read['root']}.html",)), *parts]


def only(parts: list[Part], pages: list[str]) -> list[Part]:
    """The same parts with some of their pages, and without those that have none of them."""
    some = [Part(part.caption, tuple(page for page in part.pages if page in pages)) for part in parts]
    return [part for part in some if part.pages]
