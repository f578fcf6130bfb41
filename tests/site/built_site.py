"""Where the built site is, its pages, and how to look at them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
PAGES = [path.relative_to(SITE).as_posix() for path in sorted(SITE.rglob("*.html")) if "_static" not in path.parts]
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


def pages_with(text: str) -> list[str]:
    """Return the pages whose source contains ``text``."""
    return [page for page in PAGES if text in (SITE / page).read_text(encoding="utf-8")]


def stroke(page, pad, *, start: int, end: int) -> None:
    """Draw a horizontal line with the pointer on an element, from ``start`` pixels right of its corner to ``end``."""
    box = pad.bounding_box()
    page.mouse.move(box["x"] + start, box["y"] + start)
    page.mouse.down()
    page.mouse.move(box["x"] + end, box["y"] + start, steps=10)
    page.mouse.up()
