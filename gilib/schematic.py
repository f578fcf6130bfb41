"""Schematics: who holds what, what is sent, where the loop is, legible on a phone and on a dark page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from gilib.plots import PALETTE, STYLE, Figure

__all__ = ["WIDTH", "Arrow", "Box", "schematic"]

WIDTH = 4.8
"""Inches. On a phone of 390 pixels letters of a box are then still ten pixels high."""

# The edge and the inside of each look.
_LOOKS = {
    "private": (PALETTE[5], "#E3F4EE"),
    "public": (PALETTE[0], "#E4F0F8"),
    "attacker": (PALETTE[1], "#FBEADF"),
    "plain": ("#555555", "#F4F4F4"),
}
_FONT = 10.5


@dataclass(frozen=True)
class Box:
    """A ``text`` in a box: its middle (x, y) and its size (width, height) in inches from the lower left corner.

    ``look`` is "private", "public" (others see it), "attacker" or "plain".
    """

    text: str
    middle: tuple[float, float]
    size: tuple[float, float]
    look: str = "plain"


@dataclass(frozen=True)
class Arrow:
    """An arrow between two points (x, y) in inches, by way of others, with a ``text`` at the point ``beside`` it."""

    start: tuple[float, float]
    end: tuple[float, float]
    text: str = ""
    beside: tuple[float, float] | None = None
    via: tuple[tuple[float, float], ...] = ()


def schematic(boxes: Sequence[Box], arrows: Sequence[Arrow] = (), *, height: float) -> Figure:
    """Boxes and arrows in a figure of `WIDTH` by ``height`` inches.

    Raises ValueError where a box has an unknown look, and where a box or an arrow leaves the figure.

    Taught in: foundations/federated_learning.
    """
    _check(boxes, arrows, height)
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH), ylim=(0, height))
        axes.axis("off")
        for arrow in arrows:
            _draw_arrow(axes, arrow)
        for box in boxes:
            _draw_box(axes, box)
    return figure


def _draw_box(axes: Axes, box: Box) -> None:
    (x, y), (width, height) = box.middle, box.size
    edge, inside = _LOOKS[box.look]
    shape: dict[str, Any] = {
        "boxstyle": "round,pad=0,rounding_size=0.06",
        "edgecolor": edge,
        "facecolor": inside,
        "linewidth": 1.4,
    }
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, **shape))
    axes.text(x, y, box.text, ha="center", va="center", fontsize=_FONT, linespacing=1.25)


def _draw_arrow(axes: Axes, arrow: Arrow) -> None:
    look: dict[str, Any] = {"color": "#333333", "linewidth": 1.4}
    *line, last = [arrow.start, *arrow.via]
    axes.plot(*zip(*line, last, strict=True), **look, solid_joinstyle="round")
    head = look | {"arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", arrow.end, last, arrowprops=head)
    if arrow.text:
        middle = ((last[0] + arrow.end[0]) / 2, (last[1] + arrow.end[1]) / 2)
        axes.text(*(arrow.beside or middle), arrow.text, ha="center", va="center", fontsize=_FONT - 1, linespacing=1.2)


def _check(boxes: Sequence[Box], arrows: Sequence[Arrow], height: float) -> None:
    for box in boxes:
        if box.look not in _LOOKS:
            raise ValueError(f"expected one of the looks {', '.join(_LOOKS)} for {box.text!r}, got {box.look!r}.")
        halves = [size / 2 for size in box.size]
        corners = [tuple(m + sign * half for m, half in zip(box.middle, halves, strict=True)) for sign in (-1, 1)]
        _check_inside(box.text, corners, height)
    for arrow in arrows:
        _check_inside(f"the arrow {arrow.text}", [arrow.start, *arrow.via, arrow.end], height)


def _check_inside(name: str, points: Sequence[tuple[float, ...]], height: float) -> None:
    if not all(0 <= x <= WIDTH and 0 <= y <= height for x, y in points):
        raise ValueError(f"expected {name!r} inside {WIDTH} x {height} inches. Move or shrink it.")
