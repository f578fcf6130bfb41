"""Schematics: every text is inside the figure and apart from the others, and mistakes are named."""

import io

import matplotlib.text
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from gilib.plots import SHARP
from gilib.schematic import WIDTH, Arrow, Box, schematic

CLIENT = Box("client: image $x$", (1.2, 2.5), (2.0, 0.5), "private")
SERVER = Box("server", (1.2, 0.5), (2.0, 0.5), "public")
SENT = Arrow((1.2, 2.25), (1.2, 0.75), "update $g$", (1.8, 1.5))


def texts(figure):
    """The texts of a figure and the boxes (left, bottom, right, top) that they fill, in inches."""
    shown = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    renderer = FigureCanvasAgg(figure).get_renderer()
    return {text.get_text(): text.get_window_extent(renderer).extents / figure.dpi for text in shown}


def test_texts_lie_in_their_boxes_and_the_arrow_has_its_own():
    found = texts(schematic([CLIENT, SERVER], [SENT], height=3.0))
    for box in (CLIENT, SERVER):
        left, bottom, right, top = found[box.text]
        (x, y), (width, height) = box.middle, box.size
        assert x - width / 2 < left < right < x + width / 2
        assert y - height / 2 < bottom < top < y + height / 2
    assert found["update $g$"][0] > 1.2  # beside the arrow, not on it


def test_a_phone_shows_letters_of_ten_pixels():
    figure = schematic([CLIENT], height=3.0)
    [text] = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    inches = text.get_fontsize() / 72
    assert inches * 350 / WIDTH >= 10  # a page of 390 pixels has about 350 for a figure
    picture = Image.open(io.BytesIO(figure._repr_png_()[0]))
    assert picture.mode == "RGB"  # opaque: legible on a dark page
    assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_edges_stand_out_on_white():
    for look in ("private", "public", "attacker", "plain"):
        box = Box("a", (2.0, 1.0), (1.0, 1.0), look)
        picture = Image.open(io.BytesIO(schematic([box], height=2.0)._repr_png_()[0]))
        edge = picture.getpixel((int(1.5 * 110 * SHARP), 110 * SHARP))
        linear = [(c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in edge]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) > 3  # contrast on white, WCAG 2 for graphics


@pytest.mark.parametrize(
    "boxes, arrows, said",
    [
        ([Box("far", (4.5, 1.0), (1.0, 0.5))], [], "'far' inside 4.8 x 2.0"),
        (
            [Box("odd", (1.0, 1.0), (1.0, 0.5), "secret")],
            [],
            "looks private, public, attacker, plain for 'odd'",
        ),
        ([], [Arrow((1.0, 1.0), (1.0, 3.0), "up")], "the arrow up"),
        ([], [Arrow((1.0, 1.0), (1.0, 1.5), "round", via=((5.0, 1.0),))], "the arrow round"),
    ],
)
def test_mistakes_are_named(boxes, arrows, said):
    with pytest.raises(ValueError, match=said):
        schematic(boxes, arrows, height=2.0)
