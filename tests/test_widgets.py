"""Figures that a reader can move."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from ipywidgets.widgets.widget import _instances
from ipywidgets.widgets.widget_link import Link
from PIL import Image

from gilib.widgets import (
    MAX_FRAMES,
    SHADES,
    Scrubber,
    frames_from,
    heat_table,
    png_bytes,
    scrub,
    shade,
    sortable_table,
)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.fixture
def frames():
    generator = torch.Generator().manual_seed(0)
    return frames_from(torch.rand(4, 2, 3, 5, 6, generator=generator, dtype=torch.float64), scale=3)


def build(frames, **changes):
    texts = {
        "labels": [f"iteration {i}" for i in range(len(frames))],
        "alt": [f"Noise {i}" for i in range(len(frames))],
    }
    return scrub(frames, **(texts | changes))


def test_frames_enlarge_without_smoothing_side_by_side():
    images = torch.zeros(2, 2, 3, 4, 4)
    images[1, 1, 0, 0, 0] = 1.0
    first, second = (pixels(png) for png in frames_from(images, scale=2, gap=1))
    assert first.shape == second.shape == (8, 18, 3)
    assert (first[:, 8:10] == 255).all()  # the gap
    assert (second[:2, 10:12] == (255, 0, 0)).all()  # the pixel, two by two
    assert second[:, 10:].sum() == 4 * 255


def test_frames_of_one_victim_grey_and_four_dimensional():
    assert pixels(frames_from(torch.rand(1, 3, 1, 4, 4), victim=2, scale=1)[0]).shape == (4, 4)
    assert len(frames_from(torch.rand(5, 3, 4, 4))) == 5


def test_frames_clip_and_do_not_change_their_input():
    images = torch.full((1, 1, 1, 2, 2), 7.0)
    assert (pixels(frames_from(images)[0]) == 255).all()
    assert (images == 7.0).all()


@pytest.mark.parametrize("victim", [2, -1])
def test_frames_of_a_victim_that_is_not_there(victim):
    with pytest.raises(ValueError, match="from 0 to 1"):
        frames_from(torch.zeros(1, 2, 3, 4, 4), victim=victim)


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 1, 2, 4, 4), (0, 1, 3, 4, 4), (1, 1, 1, 3, 4, 4)])
def test_frames_of_a_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"\(S, B, C, H, W\)"):
        frames_from(torch.zeros(shape))


def test_frames_that_are_not_finite():
    with pytest.raises(ValueError, match="finite"):
        frames_from(torch.full((1, 1, 3, 2, 2), torch.nan))


def test_png_bytes_are_repeatable_and_take_bytes_and_floats():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert png_bytes(image) == png_bytes(torch.from_numpy(image))
    assert (pixels(png_bytes(image / 255)) == image).all()
    with pytest.raises(ValueError, match="channels last"):
        png_bytes(np.zeros((3, 4, 4)))


def test_scrub_links_the_controls_in_the_page(frames):
    box = build(frames)
    stack, controls = box.children
    play, slider = controls.children
    assert (slider.min, slider.max, play.min, play.max) == (0, 3, 0, 3)
    assert stack.selected_index == 0
    assert len(stack.children) == 4
    links = [widget for widget in _instances.values() if isinstance(widget, Link)]
    targets = {(link.source, link.target) for link in links}
    assert {((play, "value"), (slider, "value")), ((slider, "value"), (stack, "selected_index"))} <= targets


def test_scrub_describes_every_frame_and_escapes(frames):
    box = build(frames, labels=["a < b", "1", "2", "3"], alt=['"x" & y', "1", "2", "3"])
    first = box.children[0].children[0].value
    assert "a &lt; b" in first
    assert 'alt="&quot;x&quot; &amp; y"' in first


def test_scrub_prints_short_and_always_the_same(frames):
    bundle = build(frames)._repr_mimebundle_()
    assert bundle["text/plain"] == repr(build(frames)) == "Scrubber(4 frames)"
    assert isinstance(build(frames), Scrubber)


def test_scrub_takes_arrays_and_tensors():
    assert build([np.zeros((4, 4, 3)), torch.ones(4, 4)]).frame_count == 2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"labels": ["one"]}, "one text per frame"),
        ({"alt": "one string"}, "got one string"),
        ({"alt": ["a", "b", " ", "d"]}, "empty"),
    ],
)
def test_scrub_refuses_texts(frames, changes, message):
    with pytest.raises(ValueError, match=message):
        build(frames, **changes)


def test_scrub_refuses_frames(frames):
    with pytest.raises(ValueError, match="2 to"):
        build(frames[:1])
    with pytest.raises(ValueError, match="2 to"):
        build(frames[:1] * (MAX_FRAMES + 1))
    with pytest.raises(ValueError, match="frame 1 to be a PNG"):
        build([frames[0], b"GIF89a"])
    with pytest.raises(ValueError, match="frame 0 to be PNG bytes"):
        build([3, frames[0]])
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="lower the scale"):
        build([noise, noise])


def test_a_sortable_table_shows_whole_numbers_and_sorts_by_exact_ones():
    written = sortable_table(["who", "PSNR"], [["a <b>", 12.345], ["c", math.nan], ["d", 1234.5]], caption="R & D").data
    assert "<caption>R &amp; D</caption>" in written
    assert "<td>a &lt;b&gt;</td>" in written
    assert '<td data-sort="12.345">12</td>' in written
    assert '<td data-sort="">–</td>' in written
    assert '<td data-sort="1234.5">1,234</td>' in written
    assert written.count('<th scope="col">') == 2
    assert "http" not in written
    assert "<script" not in written


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 entries in every row, got 1"):
        sortable_table(["who", "PSNR"], [["a"]], caption="x")


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_shade_is_legible_and_brighter_than_the_one_before():
    papers = [shade(place / 10)[0] for place in range(11)]
    assert papers == list(SHADES)
    assert [luminance(paper) for paper in papers] == sorted({luminance(paper) for paper in papers})
    for share in (-1, 0, 0.04, 0.44, 0.46, 0.5, 0.99, 2):
        dark, bright = sorted(luminance(colour) for colour in shade(share))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5


def test_a_heat_table_is_a_table_with_headings_and_colours():
    written = heat_table(["who", "PSNR"], {"a <b>": [("12", 0.0)], "c": [("–", math.nan)]}, caption="R & D").data
    assert "<caption>R &amp; D</caption>" in written
    assert '<th scope="row">a &lt;b&gt;</th><td style="background:#00224e;color:#ffffff">12</td>' in written
    assert '<th scope="row">c</th><td>–</td>' in written
    assert written.count('<th scope="col">') == 2
    with pytest.raises(ValueError, match="1 entries in row 'd', got 2"):
        heat_table(["who", "PSNR"], {"d": [("1", 0.0), ("2", 0.0)]}, caption="x")
