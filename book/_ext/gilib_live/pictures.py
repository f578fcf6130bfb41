"""Small pictures of the book's own data sets, written into the page itself, so that choosing one fetches nothing."""

from __future__ import annotations

import base64
import io
from functools import cache

import numpy as np
from PIL import Image

from gilib import data


def address(pixels: np.ndarray) -> str:
    """A lossless data address of bytes (H, W) or (H, W, 3)."""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


@cache
def photographs() -> list[tuple[str, str]]:
    """The first crop of each photograph of the book at 32 x 32: its name and its address."""
    photos = data.load("photos")
    first = range(len(photos.classes))
    pixels = (255 * photos.images[list(first)]).round().byte().permute(0, 2, 3, 1).numpy()
    return [(photos.classes[i], address(pixels[i])) for i in first]


@cache
def digits() -> tuple[str, list[int]]:
    """The first 32 handwritten digits of the book at 16 x 16, side by side in one picture, and what they are."""
    found = data.load("digits", size=16).batch(range(32))
    pixels = (255 * found.images[:, 0]).round().byte().numpy()
    return address(np.concatenate(list(pixels), axis=1)), found.labels.tolist()
