"""The picture that a link to the book shows elsewhere: the logo, the title, and the cover."""

from __future__ import annotations

import re
from pathlib import Path

from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from gilib_publish.head import PREVIEW_SIZE

PIXEL = re.compile(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" rx="([\d.]+)" fill="(#\w+)"')
EDGE = 60
LINES = ((56, "Bold", "#12303f", 62), (30, "", "#3c4a52", 148))


def draw(book: Path, title: str, subtitle: str, out: Path) -> None:
    """Write the picture of a folder ``book`` that has the logo and the cover, 1200 by 630 pixels."""
    picture = Image.new("RGB", PREVIEW_SIZE, "white")
    pen = ImageDraw.Draw(picture)
    for x, y, width, height, radius, colour in PIXEL.findall(
        (book / "_static" / "logo.svg").read_text(encoding="utf-8")
    ):
        left, top = EDGE + 1.6 * float(x), EDGE + 1.6 * float(y)
        box = (left, top, left + 1.6 * float(width), top + 1.6 * float(height))
        pen.rounded_rectangle(box, radius=1.6 * float(radius), fill=colour)
    for text, (size, weight, colour, top) in zip((title, subtitle), LINES, strict=True):
        name = f"DejaVuSans{'-' + weight if weight else ''}.ttf"
        font = ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / name), size)
        pen.text((EDGE + 190, top), text, font=font, fill=colour)
    with Image.open(book / "images" / "cover.png") as cover:
        width = PREVIEW_SIZE[0] - 2 * EDGE
        large = cover.convert("RGB").resize((width, width * cover.height // cover.width), Image.Resampling.LANCZOS)
    picture.paste(large, (EDGE, PREVIEW_SIZE[1] - EDGE - large.height))
    picture.save(out)
