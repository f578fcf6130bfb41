"""Figures in one style: opaque white, so that they stay legible on a dark page, and safe for colour-blind readers.

Every function returns a `Figure` of its own, at most 8 inches wide; pyplot and its global state are not involved. A
notebook shows the figure when it is the last line of a cell; elsewhere use ``figure.savefig(path)``.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import ParamSpec

import matplotlib
import matplotlib.figure
import matplotlib.style
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

__all__ = ["PALETTE", "Figure", "image_grid", "loss_curves", "psnr_spread", "signed_bars", "strip"]

# Okabe & Ito (2008): told apart with every common kind of colour vision, best the first ones. Curves also differ in
# their dashes.
PALETTE = ("#0072B2", "#D55E00", "#56B4E9", "#000000", "#E69F00", "#009E73", "#CC79A7")
_DASHES = ("-", "--", "-.", ":")
SCREEN = 110  # dots an inch of a page; book/_ext/gilib_light.py has the same number
SHARP = 2  # pixels of a stored figure for each pixel of the page: screens have two and more
STYLE = {
    "figure.dpi": SCREEN,
    "savefig.dpi": "figure",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "axes.formatter.use_mathtext": True,
    "axes.ymargin": 0.08,
}
# In inches: what a text column holds, the space between two pictures, and a line of text.
_WIDTH, _GAP, _TEXT = 8.0, 0.04, 0.19
_P = ParamSpec("_P")

Values = Tensor | NDArray[np.floating] | Sequence[float]


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that any notebook shows as a PNG image, whichever backend is active."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        buffer = io.BytesIO()
        with matplotlib.style.context(["default", STYLE]):
            self.savefig(buffer, format="png", dpi=SHARP * self.dpi)
        # Without the alpha channel the file is a third smaller, and no page shows through. No date, no version.
        opaque, small = Image.open(buffer).convert("RGB"), io.BytesIO()
        opaque.save(small, format="png", optimize=True, dpi=(SHARP * SCREEN, SHARP * SCREEN))
        return small.getvalue(), {"width": opaque.width // SHARP}  # no height: it would stay on a phone


def _styled(function: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Run `function` in our style, whatever the reader's settings are, and leave those as they were."""

    @wraps(function)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with matplotlib.style.context(["default", STYLE]):
            return function(*args, **kwargs)

    return styled


@_styled
def image_grid(
    rows: Sequence[Tensor],
    *,
    row_labels: Sequence[str] = (),
    titles: Sequence[str] = (),
    captions: Sequence[Sequence[str] | None] = (),
    columns: int = 8,
) -> Figure:
    """Rows of images under one another, such as the true images and their reconstructions.

    Each of `rows` is ``(N, C, H, W)`` in [0, 1], C being 1 or 3; `row_labels` names the rows, `titles` the N columns,
    and `captions` gives each row N texts under its images, or None. More than `columns` images continue in a second
    band. Pixels are drawn as they are, not smoothed. Raises ValueError where the numbers of images and texts differ.

    Taught in: foundations/first_leak.
    """
    count = len(rows[0]) if len(rows) else 0
    pictures = [_pictures(row, count) for row in rows]
    _check_texts(len(rows), count, row_labels, titles, captions)
    columns = min(columns, count)
    left = 0.12 + 0.08 * max(map(len, row_labels)) if row_labels else _GAP
    width = min(1.3, (_WIDTH - left) / columns - _GAP)
    boxes, size = _layout(pictures, columns, left=left, width=width, titles=bool(titles), captions=captions)
    figure = Figure(figsize=size)
    for (row, index), (x, y, height) in boxes.items():
        axes = figure.add_axes((x / size[0], y / size[1], width / size[0], height / size[1]))
        axes.imshow(pictures[row][index], cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        _bare(axes)
        if row_labels and index % columns == 0:
            axes.set_ylabel(row_labels[row], rotation=0, ha="right", va="center", labelpad=6)
        if titles and row == 0:
            axes.set_title(titles[index], pad=3)
        if captions and (texts := captions[row]) is not None:
            axes.set_xlabel(texts[index], labelpad=3)
    return figure


def _layout(
    pictures: Sequence[NDArray[np.float64]],
    columns: int,
    *,
    left: float,
    width: float,
    titles: bool,
    captions: Sequence[Sequence[str] | None],
) -> tuple[dict[tuple[int, int], tuple[float, float, float]], tuple[float, float]]:
    """Where each picture stands, ``(row, index) -> (x, y, height)``, and the size of the figure, all in inches."""
    corners: dict[tuple[int, int], tuple[float, float, float]] = {}
    count, depth = len(pictures[0]), _GAP
    for start in range(0, count, columns):
        depth += _TEXT * titles + (_TEXT / 2 if start else 0)
        for row, images in enumerate(pictures):
            height = width * images.shape[1] / images.shape[2]
            depth += height
            for index in range(start, min(start + columns, count)):
                corners[row, index] = (left + (index - start) * (width + _GAP), depth, height)
            depth += _GAP + (_TEXT if captions and captions[row] is not None else 0)
    boxes = {key: (x, depth - bottom, height) for key, (x, bottom, height) in corners.items()}
    return boxes, (left + columns * (width + _GAP), depth)


def strip(
    snapshots: Tensor, iterations: Sequence[int] | Tensor, *, truth: Tensor | None = None, frames: int = 8
) -> Figure:
    """The images of an attack as they appear, from left to right, one row for each image of the batch.

    `snapshots` is ``(S, B, C, H, W)`` in [0, 1], or ``(S, C, H, W)`` for one image; `iterations` says when each was
    taken; `truth`, ``(B, C, H, W)``, is added at the right. Of more than `frames` pictures the strip shows that many,
    evenly spaced, the first and the last among them. Raises ValueError where the shapes do not fit.

    Taught in: foundations/first_leak.
    """
    stack = snapshots[:, None] if snapshots.ndim == 4 else snapshots
    if stack.ndim != 5 or len(stack) == 0 or len(stack) != len(iterations):
        raise ValueError(
            f"expected snapshots (S, B, C, H, W) and S iterations, got {tuple(snapshots.shape)} and {len(iterations)}. "
            "Pass reconstruction.snapshots and reconstruction.snapshot_iterations."
        )
    shown = min(frames - (truth is not None), len(stack))
    chosen = np.linspace(0, len(stack) - 1, shown).round().astype(int)
    rows = list(stack[chosen].transpose(0, 1))
    titles = [f"{int(iterations[index]):,}" for index in chosen]
    titles[0] = f"iteration {titles[0]}"
    if truth is not None:
        if truth.shape != stack.shape[1:]:
            raise ValueError(f"expected truth of shape {tuple(stack.shape[1:])}, got {tuple(truth.shape)}.")
        rows = [torch.cat([row, image[None].to(row)]) for row, image in zip(rows, truth, strict=True)]
        titles.append("true image")
    return image_grid(rows, titles=titles, columns=len(titles))


@_styled
def loss_curves(
    curves: Mapping[str, Values], *, ylabel: str = "gradient matching loss", xlabel: str = "iteration"
) -> Figure:
    """Losses over the iterations on a logarithmic axis, each curve under its name.

    Each value of `curves` is ``(iterations,)``, or ``(R, iterations)`` for several runs under one name, drawn as thin
    lines of one colour. Points that are zero, negative or not finite leave a gap. Raises ValueError where there is
    nothing to draw.

    Taught in: foundations/first_leak.
    """
    figure = Figure(figsize=(6.5, 3.2), layout="constrained")
    axes = figure.subplots()
    for place, (name, values) in enumerate(_named(curves)):
        runs = np.atleast_2d(np.where(np.isfinite(values) & (values > 0), values, np.nan))
        if runs.ndim != 2 or np.isnan(runs).all():
            raise ValueError(f"expected positive losses (iterations,) or (R, iterations) for {name!r}, got none.")
        width, alpha = (1.5, 1.0) if len(runs) == 1 else (0.8, 0.7)
        lines = axes.plot(np.arange(1, runs.shape[1] + 1), runs.T, linewidth=width, alpha=alpha)
        for line in lines:
            line.set(color=_colour(place), linestyle=_DASHES[place % len(_DASHES)])
        lines[0].set_label(name)
    axes.set(yscale="log", xlabel=xlabel, ylabel=ylabel)
    axes.margins(x=0.01)
    if any(curves):  # an empty name needs no legend
        axes.legend(loc="upper right")
    return figure


@_styled
def psnr_spread(
    groups: Mapping[str, Values], *, xlabel: str = "PSNR (dB)", threshold: float | None = None, legend: str = ""
) -> Figure:
    """Every victim as a dot, the median of each group as a line: the spread, with no case hidden.

    Each value of `groups` is ``(victims,)``; infinite values (exact reconstructions) stand as triangles at the right
    edge. `threshold` draws a dashed line that `legend` explains. Raises ValueError for an empty group or NaN.

    Taught in: foundations/first_leak.
    """
    named = _named(groups)
    for name, values in named:
        if values.ndim != 1 or values.size == 0 or np.isnan(values).any():
            raise ValueError(f"expected one number for each victim in {name!r}, got {values}. Drop diverged victims.")
    edge = 1.05 * max((values[np.isfinite(values)].max(initial=1.0) for _, values in named), default=1.0)
    figure = Figure(figsize=(6.5, 0.75 + 0.62 * len(named)), layout="constrained")
    axes = figure.subplots()
    for place, (_, values) in enumerate(named):
        _dots(axes, values, place=place, edge=edge, colour=_colour(place))
    if threshold is not None:
        axes.axvline(threshold, color="#555555", linestyle="--", linewidth=1, label=legend or None)
    if threshold is not None and legend:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    axes.set_yticks(range(len(named)), [name for name, _ in named])
    axes.set(xlabel=xlabel, ylim=(len(named) - 0.45, -0.65))
    axes.grid(axis="y", visible=False)
    return figure


def _dots(axes: Axes, values: NDArray[np.float64], *, place: int, edge: float, colour: str) -> None:
    """One line of the spread. A fixed zigzag keeps equal values apart; random jitter would change every time."""
    height = place + 0.09 * (np.arange(values.size) % 5 - 2)
    exact = np.isposinf(values)
    axes.plot(values[~exact], height[~exact], "o", color=colour, markersize=5, alpha=0.75, markeredgewidth=0)
    axes.plot(np.full(exact.sum(), edge), height[exact], ">", color=colour, markersize=5, markeredgewidth=0)
    median = float(np.median(values))
    # Behind the dots, so that it hides none.
    axes.plot([min(median, edge)] * 2, [place - 0.3, place + 0.3], color="black", linewidth=2, zorder=1.5)
    text = f"{median:.1f}" if np.isfinite(median) else "exact"
    axes.annotate(text, (min(median, edge), place - 0.32), ha="center", va="bottom", fontsize=8)


@_styled
def signed_bars(values: Values, *, names: Sequence[str] = (), xlabel: str = "class", ylabel: str = "value") -> Figure:
    """One signed bar per entry, the negative ones in another colour: the gradient of the bias gives the label away.

    `values` is ``(K,)`` and finite; `names` are the K names below the bars, else 0 to K - 1. Raises ValueError for
    anything else.

    Taught in: foundations/first_leak.
    """
    heights = _array(values)
    if heights.ndim != 1 or heights.size == 0 or not np.isfinite(heights).all() or len(names) not in (0, heights.size):
        raise ValueError(f"expected K finite values and K names, got {heights.shape} and {len(names)} names.")
    figure = Figure(figsize=(6.5, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(heights.size), heights, color=[PALETTE[1] if height < 0 else PALETTE[0] for height in heights])
    axes.axhline(0, color="black", linewidth=0.8)
    if names:
        long = max(map(len, names)) > 4
        axes.set_xticks(range(heights.size), names, rotation=30 if long else 0, ha="right" if long else "center")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(axis="x", visible=False)
    return figure


def _pictures(images: Tensor, count: int) -> NDArray[np.float64]:
    """A row of the grid as ``(N, H, W)`` or ``(N, H, W, 3)``, ready for imshow."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) != count or images.numel() == 0:
        raise ValueError(f"expected rows of {count or 'some'} images (N, 1 or 3, H, W), got {tuple(images.shape)}.")
    array = _array(images)
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        raise ValueError("expected images in [0, 1], got values outside or NaN. Use images.clamp(0, 1).")
    return array[:, 0] if images.shape[1] == 1 else array.transpose(0, 2, 3, 1)


def _check_texts(
    lines: int, count: int, labels: Sequence[str], titles: Sequence[str], captions: Sequence[Sequence[str] | None]
) -> None:
    if lines == 0:
        raise ValueError("expected at least one row of images, got none. Pass a list: image_grid([batch.images]).")
    given = {"row_labels": (len(labels), lines), "titles": (len(titles), count), "captions": (len(captions), lines)}
    for name, (got, expected) in given.items():
        if got not in (0, expected):
            raise ValueError(f"expected {expected} {name} or none, got {got}.")
    for caption in captions:
        if caption is not None and len(caption) != count:
            raise ValueError(f"expected {count} texts in each of the captions, got {len(caption)}.")


def _bare(axes: Axes) -> None:
    """Only the picture and a hairline around it, so that a white image has an edge."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.5, color="#999999")


def _named(groups: Mapping[str, Values]) -> list[tuple[str, NDArray[np.float64]]]:
    if not groups:
        raise ValueError('expected at least one named group, got none. Pass for example {"DLG": values}.')
    return [(name, _array(values)) for name, values in groups.items()]


def _colour(place: int) -> str:
    return PALETTE[place % len(PALETTE)]


def _array(values: Values) -> NDArray[np.float64]:
    return torch.as_tensor(values).detach().cpu().double().numpy()
