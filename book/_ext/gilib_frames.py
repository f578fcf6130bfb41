"""Sphinx extension: a figure that moves, on a page without a kernel and without the scripts of widgets.

The frames that `gilib.widgets.scrub` stored in the notebook become plain pictures with a slider and a play button,
which the script gilib-frames.js moves. Where scripts do not run, and in print, up to six frames stand side by side.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
FRAME = '<figure class="gilib-frame'
STILL = 6


def evenly(count: int, some: int = STILL) -> set[int]:
    """At most ``some`` of ``count`` places, evenly spaced, the first and the last among them."""
    if count <= some:
        return set(range(count))
    return {round(place * (count - 1) / (some - 1)) for place in range(some)}


def below(state: dict[str, Any], model_id: str) -> list[dict[str, Any]]:
    """What is stored of a widget and of every widget in it, in order."""
    model = state.get(model_id, {}).get("state", {})
    children = [child.removeprefix("IPY_MODEL_") for child in model.get("children", [])]
    return [model, *(found for child in children for found in below(state, child))]


def figure_of(widgets: list[dict[str, Any]]) -> str:
    """The HTML of a figure that moves; empty where the widgets are another thing than `scrub` makes."""
    frames = [one["value"] for one in widgets if str(one.get("value", "")).startswith(FRAME)]
    sliders = [one for one in widgets if one.get("_model_name") == "IntSliderModel"]
    plays = [one for one in widgets if one.get("_model_name") == "PlayModel"]
    if not frames or not sliders or not plays:
        return ""
    still, name = evenly(len(frames)), html.escape(sliders[0]["description"])
    kinds = [f"{' is-still' * (place in still)}{' is-shown' * (place == 0)}" for place in range(len(frames))]
    pictures = "".join(frame.replace(FRAME, FRAME + kind, 1) for frame, kind in zip(frames, kinds, strict=True))
    return (
        f'<div class="gilib-scrub" data-interval="{int(plays[0]["interval"])}">'
        f'<div class="gilib-frames">{pictures}</div>'
        f'<div class="gilib-controls"><button type="button" aria-label="Play: {name}" aria-pressed="false"></button>'
        f'<label>{name} <input type="range" min="0" max="{len(frames) - 1}" value="0" autocomplete="off"></label>'
        "</div></div>"
    )


def plain_figures(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put a plain figure in the place of every stored widget of a page."""
    source = Path(app.env.doc2path(docname))
    views = [node for node in doctree.findall(nodes.raw) if VIEW in node.astext()]
    if not views or source.suffix != ".ipynb":
        return
    metadata = json.loads(source.read_text(encoding="utf-8"))["metadata"]
    state = metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    for view in views:
        text = view.astext()
        figure = figure_of(below(state, json.loads(text[text.index("{") : text.rindex("}") + 1])["model_id"]))
        if figure:
            view.replace_self(nodes.raw("", figure, format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", plain_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
