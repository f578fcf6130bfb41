"""Figures and tables that a reader can move on a static page: no kernel, no server, no outside script."""

from __future__ import annotations

import base64
import html
import inspect
import io
import math
from collections.abc import Mapping, Sequence

import IPython.display
import ipywidgets
import numpy as np
import torch
from PIL import Image

MAX_FRAMES = 40
MAX_BYTES = 1_500_000
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

SHADES = (
    *("#00224e", "#083370", "#35456c", "#4f576c", "#666970", "#7d7c78"),
    *("#948e77", "#aea371", "#c8b866", "#e5cf52", "#fee838"),
)
"""The colours of shares from none to all, from dark to bright, told apart by whoever does not see red or green."""

Frame = bytes | np.ndarray | torch.Tensor


class Scrubber(ipywidgets.VBox):
    """A picture, its label, a slider and a play button, linked in the page. Made by :func:`scrub`."""

    __signature__ = inspect.Signature()  # else the documentation shows the arguments of every widget

    def __init__(self, children: Sequence[ipywidgets.Widget] = (), *, frame_count: int = 0) -> None:
        super().__init__(tuple(children))
        self.frame_count = frame_count
        self.add_class("gilib-scrub")

    def __repr__(self) -> str:
        """Say only the number of frames, so that a stored output stays short and never changes."""
        return f"Scrubber({self.frame_count} frames)"


def frames_from(images: torch.Tensor, *, victim: int | None = None, scale: int = 6, gap: int = 2) -> list[bytes]:
    """Render the snapshots of an attack as small PNG files, one per snapshot.

    ``images`` has the shape ``(S, B, C, H, W)`` (or ``(S, C, H, W)``), values in [0, 1], C of 1 or 3: the field
    ``snapshots`` of a ``Reconstruction``. Values outside [0, 1] are clipped. Every pixel becomes ``scale`` by
    ``scale`` pixels (nearest neighbour); the B images of a snapshot stand side by side, ``gap`` source pixels apart,
    or alone where ``victim`` names one.

    Raises ``ValueError`` for another shape, no snapshot, a victim that is not there and values that are not finite.

    Taught in: foundations/first_leak.
    """
    if images.ndim == 4:
        images = images.unsqueeze(1)
    if images.ndim != 5 or images.shape[2] not in (1, 3) or images.numel() == 0:
        raise ValueError(
            f"expected snapshots of shape (S, B, C, H, W) with C of 1 or 3 and S over 0, got {tuple(images.shape)}; "
            "ask the attack for some with reconstruct(..., snapshots=20)"
        )
    if not torch.isfinite(images).all():
        raise ValueError("expected finite snapshots, got NaN or infinity; the attack has probably diverged")
    if victim is not None and not 0 <= victim < images.shape[1]:
        raise ValueError(f"expected victim to be from 0 to {images.shape[1] - 1}, got {victim}")
    if victim is not None:
        images = images[:, victim : victim + 1]
    return [png_bytes(_side_by_side(frame, gap=gap), scale=scale) for frame in images]


def png_bytes(image: np.ndarray | torch.Tensor, *, scale: int = 1) -> bytes:
    """Encode one picture as PNG, each pixel enlarged to ``scale`` by ``scale`` pixels without smoothing.

    ``image`` is ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)``: uint8, or floating point in [0, 1] (clipped). The bytes
    carry no date.
    """
    array = np.asarray(image.detach().cpu() if isinstance(image, torch.Tensor) else image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3):
        raise ValueError(f"expected a picture of shape (H, W) or (H, W, 3), got {array.shape}; move the channels last")
    if array.dtype != np.uint8:
        array = np.round(np.clip(array.astype(np.float64), 0.0, 1.0) * 255).astype(np.uint8)
    array = array.repeat(scale, axis=0).repeat(scale, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def scrub(
    frames: Sequence[Frame], *, labels: Sequence[str], alt: Sequence[str], interval: int = 250, name: str = "Iteration"
) -> Scrubber:
    """Let the reader move through ``frames`` with a slider and a play button.

    ``frames`` holds 2 to 40 PNG files (``bytes``, see :func:`frames_from`) or pictures that :func:`png_bytes` takes,
    together at most 1.5 MB. ``labels`` (shown under the picture) and ``alt`` (read aloud instead of it) have one text
    per frame. ``interval`` is the time between two frames of the play button in milliseconds; ``name`` says what the
    slider moves through.

    Slider, button and pictures are linked without a kernel. Show the figure by making it the last expression of a cell.
    The site shows the same frames with a plain slider; where scripts are off, and in print, up to six of them.

    Raises ``ValueError`` where the counts differ, a text is empty, a frame is no picture or the frames are too many
    or too large.

    Taught in: foundations/first_leak.
    """
    pictures = [_as_png(frame, index) for index, frame in enumerate(frames)]
    _check(pictures, labels=labels, alt=alt)
    shared = ipywidgets.HTML()  # one layout and one style for all frames keep the notebook small
    children = [
        ipywidgets.HTML(_figure(*parts), layout=shared.layout, style=shared.style)
        for parts in zip(pictures, labels, alt, strict=True)
    ]
    stack = ipywidgets.Stack(children, selected_index=0)
    last = len(children) - 1
    slider = ipywidgets.IntSlider(
        0,
        0,
        last,
        description=name,
        tooltip=name,
        readout=False,
        layout=ipywidgets.Layout(flex="1 1 12rem", width="auto"),
    )
    play = ipywidgets.Play(value=0, min=0, max=last, interval=interval, tooltip=f"Play: {name}", show_repeat=False)
    ipywidgets.jslink((play, "value"), (slider, "value"))
    ipywidgets.jslink((slider, "value"), (stack, "selected_index"))
    controls = ipywidgets.HBox([play, slider], layout=ipywidgets.Layout(flex_flow="row wrap", align_items="center"))
    return Scrubber([stack, controls], frame_count=len(children))


def sortable_table(
    columns: Sequence[str], rows: Sequence[Sequence[str | float]], *, caption: str
) -> IPython.display.HTML:
    """A table that the reader of the site sorts by its headings and filters by words; elsewhere it is a plain table.

    ``rows`` hold one entry for each of ``columns``. Numbers are shown rounded to whole ones and sorted as they are; NaN
    is shown as a dash, sorted last. ``caption`` says what the table is. Raises ValueError for rows of another length.

    Taught in: defenses/matrix.
    """
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"expected {len(columns)} entries in every row, got {len(row)}: {list(row)}")
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "\n".join(f"<tr>{''.join(map(_table_cell, row))}</tr>" for row in rows)
    return IPython.display.HTML(
        f'<table class="dataframe sortable n-last asc gilib-filter"><caption>{html.escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    )


def heat_table(
    columns: Sequence[str], rows: Mapping[str, Sequence[tuple[str, float]]], *, caption: str
) -> IPython.display.HTML:
    """A table as a heat map: each cell a text on a colour, so that it is read by eye, by a screen reader and on paper.

    ``columns`` name the heads, the first one that of the rows' names. A row holds for each other column the text and a
    share from 0 (dark) to 1 (bright); without a share, NaN, a cell has no colour. ``caption`` says what the table is.
    Raises ValueError for rows of another length.

    Taught in: defenses/matrix.
    """
    for name, row in rows.items():
        if len(row) != len(columns) - 1:
            raise ValueError(f"expected {len(columns) - 1} entries in row {name!r}, got {len(row)}.")
    head = "".join(f'<th scope="col"><span>{html.escape(name)}</span></th>' for name in columns)
    body = "\n".join(
        f'<tr><th scope="row">{html.escape(name)}</th>{"".join(map(_heat_cell, row))}</tr>'
        for name, row in rows.items()
    )
    return IPython.display.HTML(
        f'<table class="gilib-heat"><caption>{html.escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    )


def shade(share: float) -> tuple[str, str]:
    """The colours of a cell and of the ink in it, for a share in [0, 1]: their contrast is at least 4.5.

    Taught in: defenses/matrix.
    """
    place = math.floor(10 * min(max(share, 0.0), 1.0) + 0.5)
    return SHADES[place], "#ffffff" if place < 5 else "#000000"


def _heat_cell(entry: tuple[str, float]) -> str:
    text, share = entry
    if math.isnan(share):
        return f"<td>{html.escape(text)}</td>"
    paper, ink = shade(share)
    return f'<td style="background:{paper};color:{ink}">{html.escape(text)}</td>'


def _table_cell(entry: str | float) -> str:
    """One cell; a number carries the value by which the column is sorted."""
    if isinstance(entry, str):
        return f"<td>{html.escape(entry)}</td>"
    if math.isnan(entry):
        return '<td data-sort="">–</td>'
    return f'<td data-sort="{entry:g}">{entry:,.0f}</td>'


def _side_by_side(frame: torch.Tensor, *, gap: int) -> np.ndarray:
    """Lay the B images of ``frame`` (B, C, H, W) in one row with white gaps; (H, W', C)."""
    pictures = frame.detach().cpu().double().clamp(0, 1).permute(0, 2, 3, 1).numpy()
    white = np.ones((pictures.shape[1], gap, pictures.shape[3]))
    row = [part for picture in pictures for part in (white, picture)]
    return np.concatenate(row[1:], axis=1)


def _as_png(frame: Frame, index: int) -> bytes:
    """Return the PNG bytes of one frame or say what is wrong with it."""
    if isinstance(frame, bytes):
        if not frame.startswith(PNG_SIGNATURE):
            raise ValueError(f"expected frame {index} to be a PNG file, got bytes that start with {frame[:8]!r}")
        return frame
    if isinstance(frame, (np.ndarray, torch.Tensor)):
        return png_bytes(frame)
    raise ValueError(f"expected frame {index} to be PNG bytes, an array or a tensor, got {type(frame).__name__}")


def _check(pictures: list[bytes], *, labels: Sequence[str], alt: Sequence[str]) -> None:
    """Refuse what would make an unreadable or a heavy page."""
    if not 2 <= len(pictures) <= MAX_FRAMES:
        raise ValueError(f"expected 2 to {MAX_FRAMES} frames, got {len(pictures)}; take fewer snapshots of the attack")
    size = sum(len(picture) for picture in pictures)
    if size > MAX_BYTES:
        raise ValueError(
            f"expected frames of at most {MAX_BYTES:,} bytes together, got {size:,}; lower the scale or the count"
        )
    for what, texts in (("labels", labels), ("alt", alt)):
        if isinstance(texts, str) or len(texts) != len(pictures):
            count = "one string" if isinstance(texts, str) else f"{len(texts)} texts"
            raise ValueError(f"expected {what} to have one text per frame ({len(pictures)}), got {count}")
        if not all(text.strip() for text in texts):
            raise ValueError(f"expected every text of {what} to say something, got an empty one")


def _figure(picture: bytes, label: str, alt: str) -> str:
    """Write one frame as HTML: the picture with its alternative text, its label below."""
    data = base64.b64encode(picture).decode("ascii")
    return (
        f'<figure class="gilib-frame"><img src="data:image/png;base64,{data}" alt="{html.escape(alt)}">'
        f"<figcaption>{html.escape(label)}</figcaption></figure>"
    )
