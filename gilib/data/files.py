"""One file as one colour image in [0, 1], whatever mode it was saved in, or an error that names the file."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from gilib.data.pixels import from_bytes, resized

_BYTES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LA", "PA", "RGBA", "RGBa")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_SCALED = ("PNG", "PPM", "JPEG2000")  # formats whose grey values Pillow stretches to 16 bits where it opens them as "I"


def opened(path: Path, size: int | None) -> Tensor:
    """The image (3, H, W) in a file, float32 in [0, 1]; with a ``size`` cut to its centre and resized.

    Bytes stay bytes until they are resized, and what is transparent shows white. Raises ValueError for a file that is
    no image, too large, or of a mode whose white is not known.
    """
    image, white = _read(path)
    if size is not None:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = resized(image.crop((left, top, left + side, top + side)), size)
    if image.mode == "RGB":
        return from_bytes(np.asarray(image)[None])[0]
    grey = torch.tensor(np.asarray(image), device="cpu").clamp(0, white)  # resizing goes a little beyond
    grey = grey.round() if white > 1 else grey
    return (grey / white).expand(3, -1, -1).contiguous()


def _read(path: Path) -> tuple[Image.Image, float]:
    """The first page of a file as it is to be seen, in mode "RGB", or "F" for grey of more than a byte, and white."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as file:
                white, inverted = _white(file)
                image = ImageOps.exif_transpose(file)
                image.load()
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(
                f"{path} is too large ({error}). Shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS where you trust it."
            ) from error
        except Exception as error:  # damaged files make Pillow's readers raise nearly anything
            raise ValueError(f"{path} is not a readable image ({error}). Replace it or remove it.") from error
    if image.mode in _BYTES:
        return _on_white(image), 255
    if white is None:
        raise ValueError(
            f"{path} is an image of mode {image.mode!r}, in which it is not known what is white. Save it as RGB, as "
            "grey of 8 or 16 bits, or as real numbers in [0, 1]."
        )
    return _grey(path, image, white, inverted=inverted), white


def _white(file: Image.Image) -> tuple[float | None, bool]:
    """The number that is white in a file whose numbers are no bytes, if it is known, and whether it is the least."""
    tags = getattr(file, "tag_v2", {})  # of a TIFF: 258 has the bits, 262 whether zero is white
    inverted = tags.get(262) == 0
    if file.mode in _SIXTEEN_BITS:
        return 2.0 ** tags.get(258, (16,))[0] - 1, inverted
    if file.mode == "I" and file.format in _SCALED:
        return 65535.0, inverted
    return (1.0 if file.mode == "F" else None), inverted


def _grey(path: Path, image: Image.Image, white: float, *, inverted: bool) -> Image.Image:
    """Grey of more than a byte in mode "F", from 0 to ``white``. Raises ValueError for numbers outside."""
    pixels = np.asarray(image).astype(np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    if not 0 <= low <= high <= white:
        raise ValueError(
            f"{path} holds numbers from {low:.4g} to {high:.4g} of mode {image.mode!r}: expected 0 to {white:g}. "
            "Scale them, so that 0 is black and that is white."
        )
    hidden = image.info.get("transparency")  # of a PNG: the number whose pixels are not to be seen
    pixels = white - pixels if inverted else pixels
    return Image.fromarray(pixels if hidden is None else np.where(np.asarray(image) == hidden, white, pixels))


def _on_white(image: Image.Image) -> Image.Image:
    """The image in mode "RGB". Where it is transparent, white shows through, as on a page."""
    if image.mode not in ("LA", "PA", "RGBA", "RGBa") and "transparency" not in image.info:
        return image.convert("RGB")
    hidden = image.info.get("transparency")
    if isinstance(hidden, tuple) and max(hidden) > 255:  # of 16 bits, where Pillow reads the colours with 8
        image.info["transparency"] = tuple(level >> 8 for level in hidden)
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
