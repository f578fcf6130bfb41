"""Pixels from one form to another, the same on every machine."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate


def resized(image: Image.Image, size: int) -> Image.Image:
    """Pillow resizes bytes in whole numbers, antialiased: the same everywhere."""
    return image.resize((size, size), Image.Resampling.BICUBIC)


def interpolated(images: Tensor, size: int | None) -> Tensor:
    """Images at another size, antialiased, rounded to multiples of 1/255 so that no float noise remains."""
    if size is None or tuple(images.shape[-2:]) == (size, size):
        return images
    chunks = []
    for start in range(0, len(images), 1024):
        chunk = images[start : start + 1024].double()
        found = interpolate(chunk, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)
        # The tiny offset keeps exact halves from falling to either side.
        chunks.append((255 * found + 0.5 + 1e-6).floor().float() / 255)
    return torch.cat(chunks)


def from_bytes(images: NDArray[np.uint8]) -> Tensor:
    """From ``(N, H, W, C)`` bytes to ``(N, C, H, W)`` float32 in [0, 1]."""
    return torch.tensor(images, device="cpu").permute(0, 3, 1, 2).contiguous().float() / 255
