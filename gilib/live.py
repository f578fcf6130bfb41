"""A figure whose ingredients a reader changes: computed again in a running kernel, a row of frames on a static page."""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets

from gilib.widgets import Frame, Scrubber, scrub

STILL = "The choices below compute the figure again where a kernel runs. The slider works everywhere."


@dataclass(frozen=True)
class Strip:
    """What one choice of ingredients gives: frames, and under each a label and a text that is read aloud instead.

    The limits are those of :func:`gilib.widgets.scrub`: 2 to 40 frames, together at most 1.5 MB.
    """

    frames: Sequence[Frame]
    labels: Sequence[str]
    alt: Sequence[str]


class Explorer(ipywidgets.VBox):
    """A row of frames and one choice for every ingredient. Made by :func:`explore`."""

    __signature__ = inspect.Signature()  # else the documentation shows the arguments of every widget

    def __init__(
        self,
        run: Callable[..., Strip] | None = None,
        choices: Mapping[str, ipywidgets.Dropdown] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.choices = dict(choices or {})
        self.status = ipywidgets.HTML(f"<p>{STILL}</p>")
        self._run, self._settings = run, dict(settings or {})
        if run is not None:
            self.scrubber = self._computed()
            for choice in self.choices.values():
                choice.observe(self._again, "value")
            row = ipywidgets.HBox(list(self.choices.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
            self.children = (self.scrubber, row, self.status)
        self.add_class("gilib-explorer")

    def _computed(self) -> Scrubber:
        """The figure of what is chosen now."""
        assert self._run is not None
        chosen = {name: choice.value for name, choice in self.choices.items()}
        strip = self._run(**chosen)
        return scrub(strip.frames, labels=strip.labels, alt=strip.alt, **self._settings)

    def _again(self, change: Any) -> None:
        """Compute the figure of another choice and put it in the place of the old one, at the same frame."""
        self._busy(True)
        try:
            new, old = self._computed(), self.scrubber
        except Exception as error:  # shown to the reader, whose figure stays as it was
            self.status.value = f"<p><strong>Not computed:</strong> {html.escape(str(error) or repr(error))}</p>"
        else:
            _slider(new).value = min(_slider(old).value, new.frame_count - 1)
            self.scrubber = new
            self.children = (new, *self.children[1:])
            _close(old)
            self.status.value = f"<p>Computed for {self._chosen()}.</p>"
        finally:
            self._busy(False)

    def _chosen(self) -> str:
        return html.escape(", ".join(f"{choice.description} {choice.label}" for choice in self.choices.values()))

    def _busy(self, busy: bool) -> None:
        """While it computes, nothing can be chosen, and the figure says so."""
        if busy:
            self.status.value = f"<p>Computing for {self._chosen()} …</p>"
        for choice in self.choices.values():
            choice.disabled = busy

    def __repr__(self) -> str:
        """Say only what can be chosen, so that a stored output stays short and never changes."""
        return f"Explorer({', '.join(self.choices)})"


def _slider(scrubber: Scrubber) -> ipywidgets.IntSlider:
    controls = scrubber.children[1]
    return controls.children[1]


def _close(widget: ipywidgets.Widget) -> None:
    """Free a figure and everything in it, whose pictures would stay in the page otherwise."""
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()


def explore(
    run: Callable[..., Strip],
    *,
    change: Mapping[str, Sequence[Any] | Mapping[str, Any]],
    interval: int = 250,
    name: str = "Iteration",
) -> Explorer:
    """Let the reader choose ingredients and compute a figure again, in a running kernel.

    ``run(**chosen)`` returns the `Strip` of frames for one choice of ingredients; ``change`` has, for each of its
    arguments, the values to choose from: a sequence, or a mapping from what is shown to the value. The first of each
    is computed at once, and is what a page without a kernel shows, with a slider and a play button
    (:func:`gilib.widgets.scrub`, which says what ``interval`` and ``name`` are). Where ``run`` fails for a later choice
    the figure stays and says why.

    Raises ValueError where there is nothing to choose from, and what ``run`` and ``scrub`` raise for the first choice.

    Taught in: foundations/federated_learning.
    """
    empty = [argument for argument, values in change.items() if len(values) < 2]
    if empty or not change:
        raise ValueError(f"expected at least two values for each of the arguments to change, got fewer for {empty}")
    choices = {
        argument: ipywidgets.Dropdown(
            options=list(values.items()) if isinstance(values, Mapping) else [(str(one), one) for one in values],
            description=argument.replace("_", " "),
            tooltip=argument.replace("_", " "),
            style={"description_width": "initial"},
            layout=ipywidgets.Layout(width="auto"),
        )
        for argument, values in change.items()
    }
    return Explorer(run, choices, {"interval": interval, "name": name})
