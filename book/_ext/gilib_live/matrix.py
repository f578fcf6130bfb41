"""The markup of the explorer of the matrix; ``book/_static/gilib-live/matrix.js`` brings it to life."""

from __future__ import annotations

import html

from gilib_live import matrix_data

FIGURE = "fig-matrix-untrained"
SWITCHES = {
    "attacker": ("Attacker", {"better": "the better of the two", "plain": "plain", "adaptive": "adaptive"}),
    "stage": ("When", {"0": "before training", "20": "after 20 rounds", "100": "after 100 rounds"}),
    "rounds": ("Looks at", {"1": "one round", "16": "sixteen rounds"}),
    "people": ("People", {str(place): name for place, name in enumerate(matrix_data.GROUPS)}),
    "network": ("Network", {"": "all"}),
    "show": (
        "In the cells",
        {"median": "median person, dB", "worst": "worst person, dB", "share": "recognisable, %"},
    ),
}


def markup() -> str:
    """The whole explorer; it takes the place of a table when its data are there."""
    choices = "".join(_choice(name, *switch) for name, switch in SWITCHES.items())
    shades = "".join(f'<i style="background:{paper}"></i>' for paper, _ in matrix_data.shades())
    return f"""<div class="gilib-live gilib-matrix" data-live="matrix" data-figure="{FIGURE}"
data-source="{matrix_data.NAME}?v={matrix_data.version()}" role="group" aria-label="The matrix, to explore" hidden>
<div class="gilib-live-choices">{choices}
<label><span>Recognisable from <output>25</output> dB</span>
<input type="range" name="from" min="5" max="60" value="25"></label></div>
<p class="gilib-live-status" role="status"></p>
<p class="gilib-matrix-legend" aria-hidden="true">recognisable: nobody {shades} everybody</p>
<div class="gilib-matrix-box">
<table class="gilib-heat"><caption></caption><thead></thead><tbody></tbody></table></div>
<section class="gilib-matrix-cell" aria-label="The people behind a cell"
hidden></section>
<p class="gilib-live-note">Choose a cell to see its people and what came back of each. The arrow keys move between
cells, the Enter key opens one. The address of the page keeps the view. A dash: the attack does not apply; a point: not
measured.</p>
</div>"""


def _choice(name: str, label: str, options: dict[str, str]) -> str:
    written = "".join(f'<option value="{value}">{html.escape(text)}</option>' for value, text in options.items())
    return f'<label>{label}<select name="{name}">{written}</select></label>'
