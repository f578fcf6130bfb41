"""The data sets that come inside other packages: photographs, digits and faces, without a download."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gilib.data.batch import Dataset
from gilib.data.pixels import from_bytes, interpolated, resized

# The windows (left, top, side) of each photograph that come first: chosen by eye, recognisable at 32 x 32 pixels.
_WINDOWS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "astronaut": ((120, 0, 220), (80, 0, 300), (300, 0, 212)),
    "cat": ((75, 0, 300), (90, 60, 190), (180, 100, 150)),
    "coffee": ((90, 5, 390), (150, 10, 250), (240, 170, 190)),
    "rocket": ((190, 100, 327), (230, 100, 180), (170, 207, 220)),
    "galaxies": ((560, 330, 220), (300, 20, 160), (340, 640, 180)),
    "retina": ((0, 0, 1411), (30, 400, 520), (40, 650, 620)),
    "tissue": ((230, 270, 220), (30, 0, 260), (250, 0, 240)),
    "motorcycle": ((110, 40, 460), (320, 60, 240), (90, 210, 230)),
    "pagoda": ((0, 20, 400), (60, 60, 280), (100, 20, 200)),
    "flower": ((100, 55, 320), (140, 75, 260), (200, 130, 160)),
}
_CROPS = 24  # of each photograph


def _photographs() -> Iterator[Image.Image]:
    """The photographs, in the order of `_WINDOWS`. All of them come inside the wheels: nothing is downloaded."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    for name in ("astronaut", "cat", "coffee", "rocket", "hubble_deep_field", "retina", "immunohistochemistry"):
        yield Image.fromarray(getattr(skimage.data, name)())
    left, _, _ = skimage.data.stereo_motorcycle()
    yield Image.fromarray(left)
    for name in ("china.jpg", "flower.jpg"):
        yield Image.fromarray(load_sample_image(name))


def _crops(photograph: Image.Image, first: Sequence[tuple[int, int, int]]) -> list[Image.Image]:
    """The chosen windows, then the liveliest windows of a regular 7 x 7 grid, each 40 % of the shorter side."""
    side = 2 * min(photograph.size) // 5
    columns, rows = ((length - side) * np.arange(7) // 6 for length in photograph.size)
    grid = [(int(left), int(top), side) for top in rows for left in columns]
    crops = [photograph.crop((left, top, left + side, top + side)) for left, top, side in (*first, *grid)]
    chosen, rest = crops[: len(first)], crops[len(first) :]
    # Nearly uniform windows (sky, black margins) show nothing. Whole numbers rank the same on every machine.
    ranked = sorted(range(len(rest)), key=lambda index: -_contrast(rest[index]))
    return chosen + [rest[index] for index in ranked[: _CROPS - len(first)]]


def _contrast(crop: Image.Image) -> int:
    """The variance of the colours, times the squared number of pixels, at a fixed small size."""
    pixels = np.asarray(resized(crop, 32), dtype=np.int64).reshape(-1, 3)
    return int((len(pixels) * (pixels**2).sum(axis=0) - pixels.sum(axis=0) ** 2).sum())


def photos(size: int | None, root: Path) -> Dataset:
    """The crops, the photographs taking turns."""
    crops = [_crops(photograph, first) for photograph, first in zip(_photographs(), _WINDOWS.values(), strict=True)]
    turns = [crop for turn in zip(*crops, strict=True) for crop in turn]
    images = np.stack([np.asarray(resized(crop, size or 32)) for crop in turns])
    labels = torch.arange(len(_WINDOWS), device="cpu").repeat(_CROPS)
    return Dataset(from_bytes(images), labels, tuple(_WINDOWS))


def digits(size: int | None, root: Path) -> Dataset:
    """The handwritten digits of scikit-learn."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.as_tensor(found.images[:, None] / 16, dtype=torch.float32, device="cpu")
    labels = torch.as_tensor(found.target, dtype=torch.int64, device="cpu")
    return Dataset(interpolated(images, size), labels, tuple(map(str, range(10))))


def faces(size: int | None, root: Path) -> Dataset:
    """The patches of scikit-image."""
    import skimage.data

    patches = skimage.data.lfw_subset()
    images = np.rint(patches[..., None] * 255).astype(np.uint8)
    labels = torch.arange(2, device="cpu").repeat_interleave(100)
    return Dataset(interpolated(from_bytes(images), size), labels, ("face", "not a face"))
