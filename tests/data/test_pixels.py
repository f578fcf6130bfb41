"""Pixels are read right or refused by name: sixteen bits, real numbers, transparency, other colours, size."""

import numpy as np
import pytest
import torch
from pictures import save
from PIL import Image

from gilib import data

RAMP = np.tile(np.linspace(0, 65535, 16).round().astype(np.uint16), (16, 1))


def _grey(path):
    """The one image of a folder, which must be grey: (H, W), float64."""
    image = data.load(path).images[0].double()
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])
    return image[0]


@pytest.mark.parametrize("kind", ["png", "little tif", "big tif", "pgm", "white is zero"])
def test_grey_of_sixteen_bits_keeps_all_of_them(tmp_path, kind):
    if kind == "png":
        Image.fromarray(RAMP).save(tmp_path / "a.png")
    elif kind == "little tif":
        Image.fromarray(RAMP).save(tmp_path / "a.tif")
    elif kind == "big tif":
        Image.frombytes("I;16B", (16, 16), RAMP.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    elif kind == "white is zero":
        Image.fromarray(65535 - RAMP).save(tmp_path / "a.tif", tiffinfo={262: 0})
    else:
        (tmp_path / "a.pgm").write_bytes(b"P5 16 16 65535\n" + RAMP.astype(">u2").tobytes())
    torch.testing.assert_close(_grey(tmp_path), torch.tensor(RAMP.astype(np.float64) / 65535), rtol=0, atol=1e-7)
    small = data.load(tmp_path, size=8).images[0, 0, 4]
    assert small.diff().min() > 0.05  # still a ramp from dark to bright
    assert small[0] < 0.1 < 0.9 < small[-1]


def test_real_numbers_from_zero_to_one_are_read_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    assert torch.equal(_grey(tmp_path), torch.tensor(pixels).double())


@pytest.mark.parametrize(
    "image, message",
    [
        (Image.fromarray(np.full((4, 4), 255, np.float32)), r"255 to 255 of mode 'F': expected 0 to 1.*Scale"),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), "nan to nan of mode 'F'"),
        (Image.fromarray(np.full((4, 4), 200, np.int32)), r"mode 'I'.*not known what is white.*Save it"),
        (Image.new("LAB", (4, 4)), r"mode 'LAB'.*Save it as RGB"),
    ],
    ids=["large", "nan", "whole", "lab"],
)
def test_pixels_of_another_range_are_refused_by_name(tmp_path, image, message):
    image.save(tmp_path / "scan.tif")
    with pytest.raises(ValueError, match=rf"scan\.tif .*{message}"):
        data.load(tmp_path)


def test_printing_colours_become_the_colours_of_a_screen(tmp_path):
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "cyan.tif")
    assert data.load(tmp_path).images[0, :, 0, 0].tolist() == [0, 1, 1]


def _half_hidden(mode):
    """A picture whose left half is wholly transparent, with red or a grey behind it, and how to save it."""
    seen, options = Image.new("RGBA", (8, 8), (200, 100, 0, 255)), {}
    if mode == "RGBA":
        seen.paste((255, 0, 0, 0), (0, 0, 4, 8))
    elif mode == "LA":
        seen = Image.new("LA", (8, 8), (100, 255))
        seen.paste((50, 0), (0, 0, 4, 8))
    elif mode == "P":
        seen = Image.new("P", (8, 8), 1)
        seen.putpalette([255, 0, 0, 200, 100, 0])
        seen.paste(0, (0, 0, 4, 8))
        options = {"transparency": 0}
    elif mode == "RGB":
        seen = Image.new("RGB", (8, 8), (200, 100, 0))
        seen.paste((255, 0, 0), (0, 0, 4, 8))
        options = {"transparency": (255, 0, 0)}
    else:
        pixels = np.full((8, 8), 100 * 257, np.uint16)
        pixels[:, :4] = 300
        seen, options = Image.fromarray(pixels), {"transparency": 300}
    return seen, options


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "I;16"])
def test_what_is_transparent_shows_white(tmp_path, mode):
    seen, options = _half_hidden(mode)
    seen.save(tmp_path / "a.png", **options)
    image = data.load(tmp_path).images[0]
    assert image[:, :, :4].unique().tolist() == [1.0]
    opaque = [100, 100, 100] if mode in ("LA", "I;16") else [200, 100, 0]
    torch.testing.assert_close(image[:, :, 4:], torch.tensor(opaque)[:, None, None].expand(3, 8, 4) / 255)


def test_half_transparent_lies_on_white_and_opaque_stays_bit_by_bit(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 51)).save(tmp_path / "a.png")
    assert (data.load(tmp_path).images * 255).round().unique().tolist() == [204.0]
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    opaque = np.stack([levels, levels[::-1], levels.T, np.full_like(levels, 255)], axis=-1)
    save(tmp_path / "opaque" / "a.png", opaque)
    found = (data.load(tmp_path / "opaque").images[0] * 255).round().byte()
    assert torch.equal(found, torch.tensor(opaque[..., :3].copy()).permute(2, 0, 1))


@pytest.mark.parametrize("ending", ["png", "gif", "tif", "webp"])
def test_of_several_frames_the_first_is_read(tmp_path, ending):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    torch.testing.assert_close(
        data.load(tmp_path).images.mean(dim=(0, 2, 3)), torch.tensor([1.0, 0, 0]), atol=0.01, rtol=0
    )


@pytest.mark.parametrize("limit", [1000, 3000])  # Pillow raises above twice its limit, and warns above it
def test_a_huge_picture_is_named_with_what_to_do(tmp_path, monkeypatch, limit):
    save(tmp_path / "slide.png", np.zeros((64, 64, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=r"slide\.png is too large.*4096 pixels.*MAX_IMAGE_PIXELS"):
        data.load(tmp_path, size=32)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    assert data.load(tmp_path, size=32).images.shape == (1, 3, 32, 32)
