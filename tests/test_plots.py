"""Figures: what they show, that they stay legible on any page, and that they leave the reader's matplotlib alone."""

import io
import itertools
import re

import matplotlib
import matplotlib.style
import nbformat
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from nbclient import NotebookClient
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from gilib import plots


def images(count: int, *, channels: int = 3, height: int = 8, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, channels, height, width, generator=generator)


def pixels(figure: plots.Figure) -> np.ndarray:
    """What is seen, a pixel of the page each."""
    return np.asarray(Image.open(io.BytesIO(figure._repr_png_()[0])))[:: plots.SHARP, :: plots.SHARP]


def visible_texts(figure: plots.Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


EVERY_FIGURE = {
    "image_grid": lambda: plots.image_grid(
        [images(16), images(16)], row_labels=["true image", "reconstruction"], captions=[None, ["12.3 dB"] * 16]
    ),
    "strip": lambda: plots.strip(images(20)[:, None], range(0, 200, 10), truth=images(1)),
    "loss_curves": lambda: plots.loss_curves({"DLG": np.geomspace(10, 1e-5, 300), "iDLG": np.geomspace(9, 1e-3, 300)}),
    "psnr_spread": lambda: plots.psnr_spread({"DLG": [31.0, 35.5, 12.0], "iDLG": [40.0, 41.0]}, threshold=25.0),
    "signed_bars": lambda: plots.signed_bars([0.1, 0.2, -0.9], names=["cat", "dog", "motorcycle"]),
}


@pytest.fixture(params=EVERY_FIGURE)
def build(request):
    return EVERY_FIGURE[request.param]


def test_every_figure_is_opaque_white_small_and_fits_the_column(build):
    figure = build()
    png, size = figure._repr_png_()
    shown = Image.open(io.BytesIO(png))
    assert png.startswith(b"\x89PNG")
    assert shown.mode == "RGB"
    assert [shown.getpixel(corner) for corner in ((0, 0), (shown.width - 1, shown.height - 1))] == [(255, 255, 255)] * 2
    assert size["width"] <= 8 * 110 + 1
    assert size == {"width": shown.width // plots.SHARP}
    assert round(shown.info["dpi"][0]) == plots.SHARP * plots.SCREEN
    assert len(png) < 200_000
    assert len(np.unique(pixels(figure).reshape(-1, 3), axis=0)) > 5


def test_every_figure_is_the_same_each_time_and_says_so_in_one_line(build):
    first, second = build(), build()
    assert first._repr_png_() == second._repr_png_()
    assert re.fullmatch(r"<Figure size [\d.]+x[\d.]+ with \d+ Axes>", repr(first))
    assert repr(first) == repr(second)


def test_no_text_leaves_the_figure_or_covers_another(build):
    figure = build()
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text() and text.get_visible()]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_window_extent(renderer).width > 0]
    page = figure.bbox
    inside = [box for box in boxes if box.x1 > 0 and box.x0 < page.x1 and box.y1 > 0 and box.y0 < page.y1]
    assert inside
    for number, box in enumerate(inside):
        assert box.x0 >= page.x0 - 1
        assert box.x1 <= page.x1 + 1
        assert box.y0 >= page.y0 - 1
        assert box.y1 <= page.y1 + 1
        assert not any(_shared(box, other) > 0.2 for other in inside[number + 1 :])


def _shared(box, other) -> float:
    """The part of the smaller box that the other covers."""
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return max(width, 0) * max(height, 0) / min(box.width * box.height, other.width * other.height)


def test_the_settings_of_the_reader_neither_matter_nor_change(build):
    plain = build()._repr_png_()
    with matplotlib.style.context("dark_background"):
        before = dict(matplotlib.rcParams)
        assert build()._repr_png_() == plain
        assert dict(matplotlib.rcParams) == before


# Machado, Oliveira & Fernandes (2009), full severity, on linear RGB.
COLOUR_VISION = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_the_palette_is_told_apart_with_every_colour_vision(vision):
    encoded = np.array([to_rgb(colour) for colour in plots.PALETTE])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(COLOUR_VISION[vision]).T, 0, 1)
    shown = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(np.vstack([shown, np.ones(3)]))  # beside one another, and against the white page
    assert min(deltaE_ciede2000(one, two) for one, two in itertools.combinations(lab, 2)) > 7
    # Most figures use the first two or three colours alone.
    assert min(deltaE_ciede2000(one, two) for one, two in itertools.combinations(lab[:3], 2)) > 19
    assert deltaE_ciede2000(lab[0], lab[1]) > 39


def test_the_grid_shows_every_image_where_it_belongs():
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    true = colours[:, :, None, None].expand(3, 3, 4, 4)
    figure = plots.image_grid([true, 1 - true], columns=2)
    shown, height = pixels(figure), pixels(figure).shape[0]
    seen = {}
    for axes in figure.axes:
        x, y = axes.transAxes.transform((0.5, 0.5))
        seen[round(y), round(x)] = tuple(shown[height - round(y), round(x)])
    # Two bands of two rows: the third image and its opposite stand below, at the left.
    order = [seen[key] for key in sorted(seen, key=lambda key: (-key[0], key[1]))]
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    assert order == [red, green, (0, 255, 255), (255, 0, 255), blue, (255, 255, 0)]


def test_a_grid_labels_rows_columns_and_images():
    captions = [None, ["9.9 dB", "8.8 dB"]]
    figure = plots.image_grid([images(2)] * 2, row_labels=["true", "DLG"], titles=["cat", "dog"], captions=captions)
    top_left, top_right, bottom_left, bottom_right = figure.axes
    assert (top_left.get_ylabel(), bottom_left.get_ylabel()) == ("true", "DLG")
    assert (top_left.get_title(), top_right.get_title()) == ("cat", "dog")
    assert (bottom_left.get_xlabel(), bottom_right.get_xlabel()) == ("9.9 dB", "8.8 dB")
    assert len(visible_texts(figure)) == 6


def test_grey_images_are_not_stretched_to_black_and_white():
    flat = torch.full((1, 1, 4, 4), 0.5)
    middle = pixels(plots.image_grid([flat]))
    assert abs(int(middle[middle.shape[0] // 2, middle.shape[1] // 2, 0]) - 128) <= 1


def test_wide_images_keep_their_shape():
    axes = plots.image_grid([images(1, height=4, width=12)]).axes[0]
    box = axes.get_window_extent()
    assert box.width / box.height == pytest.approx(3.0, rel=0.01)


@pytest.mark.parametrize(
    "rows, options, message",
    [
        ([], {}, "at least one row"),
        ([images(2), images(3)], {}, r"2 images.*\(3, 3, 8, 8\)"),
        ([images(2, channels=2)], {}, r"\(2, 2, 8, 8\)"),
        ([images(2)[0]], {}, r"\(3, 8, 8\)"),
        ([images(2) + 1], {}, "clamp"),
        ([images(2) * torch.nan], {}, "NaN"),
        ([images(2)], {"titles": ["one"]}, "2 titles or none, got 1"),
        ([images(2)], {"row_labels": ["a", "b"]}, "1 row_labels or none, got 2"),
        ([images(2)], {"captions": [["a"]]}, "2 texts.*got 1"),
    ],
)
def test_a_grid_refuses_what_does_not_fit(rows, options, message):
    with pytest.raises(ValueError, match=message):
        plots.image_grid(rows, **options)


def test_a_strip_keeps_the_first_and_the_last_frame_and_adds_the_truth():
    snapshots = torch.linspace(0, 1, 21)[:, None, None, None, None].expand(21, 2, 1, 4, 4)
    figure = plots.strip(snapshots, torch.arange(0, 2100, 100), truth=torch.full((2, 1, 4, 4), 0.25), frames=6)
    assert visible_texts(figure) == ["iteration 0", "500", "1,000", "1,500", "2,000", "true image"]
    shades = [float(axes.images[0].get_array().mean()) for axes in figure.axes]
    assert sorted(shades) == sorted([0.0, 0.25, 0.5, 0.75, 1.0, 0.25] * 2)


def test_a_strip_of_one_image_needs_no_batch_dimension():
    assert len(plots.strip(images(3), [0, 5, 10]).axes) == 3


@pytest.mark.parametrize(
    "snapshots, iterations, truth",
    [
        (images(3), [0, 1], None),
        (images(3)[0], [0, 1, 2], None),
        (images(3)[:0], [], None),
        (images(3), [0, 1, 2], images(2)),
    ],
)
def test_a_strip_refuses_what_does_not_fit(snapshots, iterations, truth):
    with pytest.raises(ValueError, match="expected"):
        plots.strip(snapshots, iterations, truth=truth)


def test_loss_curves_are_logarithmic_and_leave_gaps():
    values = [1.0, 0.1, 0.0, float("nan"), float("inf"), 1e-4]
    axes = plots.loss_curves({"one": values, "many": torch.ones(3, 6)}).axes[0]
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "many"]
    drawn = axes.lines[0].get_ydata()
    assert np.isfinite(drawn).tolist() == [True, True, False, False, False, True]
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert len(axes.lines) == 4
    assert len({line.get_color() for line in axes.lines[1:]}) == 1


@pytest.mark.parametrize("curves", [{}, {"zero": [0.0, 0.0]}, {"none": []}, {"cube": np.ones((2, 2, 2))}])
def test_loss_curves_refuse_nothing(curves):
    with pytest.raises(ValueError, match="expected"):
        plots.loss_curves(curves)


def test_the_spread_shows_every_victim_and_the_median():
    values = [10.0, 30.0, 31.0, 32.0, float("inf")]
    axes = plots.psnr_spread({"DLG": values, "iDLG": [5.0] * 7}, threshold=25.0, legend="recognisable").axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in dots] == [values[:4], [5.0] * 7]
    assert (
        len({*zip(dots[1].get_xdata(), dots[1].get_ydata(), strict=True)}) >= 5
    )  # equal values do not hide each other
    exact = [line for line in axes.lines if line.get_marker() == ">" and len(line.get_xdata())]
    assert len(exact) == 1
    assert exact[0].get_xdata()[0] > 32
    assert [text.get_text() for text in axes.texts] == ["31.0", "5.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["DLG", "iDLG"]
    assert axes.yaxis_inverted()


def test_a_spread_of_exact_reconstructions_only_still_draws():
    figure = plots.psnr_spread({"analytic": [float("inf")] * 3})
    assert "exact" in visible_texts(figure)
    assert pixels(figure).std() > 1


@pytest.mark.parametrize("groups", [{}, {"empty": []}, {"nan": [1.0, float("nan")]}, {"square": np.ones((2, 2))}])
def test_a_spread_refuses_what_it_cannot_show(groups):
    with pytest.raises(ValueError, match="expected"):
        plots.psnr_spread(groups)


def test_signed_bars_tell_the_sign_by_colour_too():
    axes = plots.signed_bars(torch.tensor([0.5, -0.25, 0.0])).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [0.5, -0.25, 0.0]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[0] == colours[2] != colours[1]


@pytest.mark.parametrize("values, names", [([], []), ([1.0, float("nan")], []), ([1.0, 2.0], ["one"]), ([[1.0]], [])])
def test_signed_bars_refuse_what_does_not_fit(values, names):
    with pytest.raises(ValueError, match="expected K finite values"):
        plots.signed_bars(values, names=names)


def test_a_notebook_shows_a_figure_once_with_and_without_pyplot():
    sources = ["from gilib import plots\nplots.signed_bars([1.0, -1.0])"]
    sources.append("import matplotlib.pyplot as plt\nplots.signed_bars([1.0, -1.0])")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    for cell in notebook.cells:
        # Warnings of the machine (its fonts, its processor) may stand beside the figure.
        pictures = [output for output in cell.outputs if output.output_type != "stream"]
        assert [picture.output_type for picture in pictures] == ["execute_result"], cell.outputs
        shown = pictures[0].data
        assert set(shown) == {"text/plain", "image/png"}
        assert shown["text/plain"] == "<Figure size 715x308 with 1 Axes>"
