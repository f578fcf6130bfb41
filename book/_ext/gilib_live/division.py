"""The markup of the division; ``book/_static/gilib-live/division.js`` brings it to life."""

from __future__ import annotations

import json

from gilib_live.pictures import digits

NEURONS = 64
NOISE = {
    "0": "none",
    "1e-6": "0.0001 %",
    "1e-4": "0.01 %",
    "1e-3": "0.1 %",
    "1e-2": "1 %",
    "1e-1": "10 %",
}


def markup() -> str:
    """The whole experiment. The other members of the batch are digits of the book, in one picture."""
    source, labels = digits()
    options = "".join(f'<option value="{value}">{text}</option>' for value, text in NOISE.items())
    tiles = "".join('<canvas width="16" height="16" aria-hidden="true"></canvas>' for _ in range(NEURONS))
    return f"""<div class="gilib-live" data-live="division" role="group" aria-label="One division">
<div class="gilib-live-division">
<div><figure class="gilib-live-own"><div class="gilib-live-screen"><canvas width="16" height="16" tabindex="0"
role="application" aria-label="Your digit; the arrow keys move the brush, with shift or the space bar it paints">
</canvas></div><figcaption><b>Client</b> draw here</figcaption></figure>
<p class="gilib-live-buttons"><button type="button" data-do="clear">Clear</button>
<button type="button" data-do="another">A digit of the book</button></p></div>
<figure class="gilib-live-neurons"><div class="gilib-live-tiles" role="img" aria-label="">{tiles}</div>
<figcaption><b>Server</b> one quotient for each of {NEURONS} neurons</figcaption></figure>
</div>
<div class="gilib-live-choices">
<label><span>Images in the batch: <output name="size">1</output></span>
<input type="range" name="gilib-live-size" min="1" max="32" value="1"></label>
<label>Noise, beside the gradient's size<select name="gilib-live-noise">{options}</select></label>
</div>
<p class="gilib-live-status" role="status"></p>
<p class="gilib-live-note">Your digit stays in this page. The other images of a batch are digits of the book. Each tile
is the gradient of a neuron's weights divided by the gradient of its bias, as it is, cut to the range of a picture. A
hatched tile is a neuron whose gradient is zero: nothing to divide. A frame marks the quotients that are one image to a
millionth: solid for yours, dashed for another's.</p>
<img class="gilib-live-digits" hidden alt="" src="{source}" data-labels="{json.dumps(labels)}">
</div>"""
