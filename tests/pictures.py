"""Six small colour pictures, and how the tests write one to a file."""

from pathlib import Path

import numpy as np
from PIL import Image

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    """Write pixels (H, W) or (H, W, 3) in the format of the path's ending, in folders that are made where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
