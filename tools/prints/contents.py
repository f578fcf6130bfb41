"""The first sheets of the PDF: a cover, and the contents with page numbers."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping
from pathlib import Path

from tools.prints.order import ROOT, Part

STYLE = """
  body { font: 11pt/1.45 sans-serif; color: #1b1f24; margin: 0 }
  .cover { height: 255mm; display: flex; flex-direction: column; justify-content: space-between; break-after: page }
  .cover h1 { font-size: 38pt; line-height: 1.1; margin: 20mm 0 4mm } .cover p { margin: 0 0 3mm }
  .cover img.people { width: 100%; image-rendering: pixelated } .cover img.sign { width: 24mm }
  .small { color: #4a5565; font-size: 9.5pt }
  h2 { font-size: 18pt } h3 { font-size: 11pt; margin: 5mm 0 1mm; color: #0b6b74; break-after: avoid }
  ol { list-style: none; margin: 0; padding: 0 } li { break-inside: avoid }
  a { color: inherit; text-decoration: none; display: flex; gap: 2mm; align-items: baseline }
  a i { flex: 1; border-bottom: 1px dotted #8a94a3 }
"""


def picture(path: Path, kind: str) -> str:
    """A picture as an address that carries it."""
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def lines(parts: Iterable[Part], titles: Mapping[str, str], numbers: Mapping[str, int], base: str) -> Iterable[str]:
    """The contents, part by part."""
    for part in parts:
        yield f"<h3>{html.escape(part.caption)}</h3><ol>" if part.caption else "<ol>"
        for path in part.pages:
            title = html.escape(titles[path])
            yield f'<li><a href="{base}{path}"><span>{title}</span><i></i><span>{numbers[path]}</span></a></li>'
        yield "</ol>"


def first_sheets(parts: list[Part], titles: Mapping[str, str], numbers: Mapping[str, int], base: str) -> str:
    """The HTML of cover and contents; ``titles`` and ``numbers`` map pages of the site to titles and sheets."""
    return f"""<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Gradient Inversion</title>
<style>{STYLE}</style>
<div class="cover"><div><img class="sign" src="{picture(ROOT / "book/_static/logo.svg", "svg+xml")}" alt="">
<h1>Gradient<br>Inversion</h1><p>An executable textbook</p></div>
<div><img class="people" src="{picture(ROOT / "book/images/cover.png", "png")}" alt="">
<p class="small">Above: photographs that clients kept to themselves. Below: what a server made of one gradient
each.</p></div>
<p class="small">Printed from the stored outputs of its chapters. What moves on the site stands here as single
pictures, and what a button opens is open. Text: CC BY 4.0. Code: MIT.</p></div>
<h2>Contents</h2>{"".join(lines(parts, titles, numbers, base))}</html>"""
