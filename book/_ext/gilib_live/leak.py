"""The markup of the live leak; ``book/_static/gilib-live/leak.js`` brings it to life."""

from __future__ import annotations

from collections.abc import Iterable

from gilib_live.pictures import photographs

FIRST = "cat"
WORDS = {
    "astronaut": "an astronaut",
    "cat": "a cat",
    "coffee": "a cup of coffee",
    "rocket": "a rocket",
    "galaxies": "galaxies",
    "retina": "a retina",
    "tissue": "stained tissue",
    "motorcycle": "a motorcycle",
    "pagoda": "a pagoda",
    "flower": "a flower",
}
COLOURS = {
    "black": "0.1 0.1 0.12",
    "white": "0.98 0.98 0.98",
    "red": "0.85 0.2 0.2",
    "yellow": "0.95 0.8 0.2",
    "green": "0.2 0.6 0.3",
    "blue": "0.2 0.35 0.8",
}
CHOICES = {
    "activation": ("Network", {"sigmoid": "sigmoid, as in the book", "relu": "ReLU"}),
    "noise": (
        "Noise, beside the gradient's size",
        {"0": "none", "0.001": "0.1 %", "0.01": "1 %", "0.1": "10 %", "1": "100 %"},
    ),
    "pruned": ("Left out, smallest first", {"0": "nothing", "0.5": "50 %", "0.9": "90 %", "0.99": "99 %"}),
}


def party(name: str, side: int, title: str, text: str) -> str:
    """A picture of one who takes part, or of what is sent."""
    return (
        f'<figure class="gilib-live-{name}"><div class="gilib-live-screen"><canvas width="{side}" height="{side}" '
        f'role="img" aria-label="{title}"></canvas>'
        + ("<video muted playsinline hidden aria-label='Camera'></video>" if name == "client" else "")
        + f"</div><figcaption><b>{title}</b> {text}</figcaption></figure>"
    )


def thumbnails() -> Iterable[str]:
    """The photographs to choose from."""
    for number, (name, source) in enumerate(photographs()):
        checked = " checked" if name == FIRST else ""
        yield (
            f'<label><input type="radio" name="gilib-live-photo" value="{number}"{checked}>'
            f'<img src="{source}" alt="{WORDS[name]}" width="32" height="32"></label>'
        )


def colours() -> str:
    """The colours to draw with."""
    buttons = "".join(
        f'<label><input type="radio" name="gilib-live-colour" value="{value}"{" checked" if name == "black" else ""}>'
        f'<i style="background:rgb({" ".join(str(round(255 * float(part))) for part in value.split())})"></i>{name}'
        "</label>"
        for name, value in COLOURS.items()
    )
    return f'<fieldset class="gilib-live-colours" hidden><legend>Colour</legend>{buttons}</fieldset>'


def choices() -> str:
    """The settings of network and client."""
    return "".join(
        f'<label>{title}<select name="gilib-live-{name}">'
        + "".join(f'<option value="{value}">{text}</option>' for value, text in options.items())
        + "</select></label>"
        for name, (title, options) in CHOICES.items()
    )


def markup() -> str:
    """The whole experiment."""
    parties = (
        party("client", 32, "Client", "keeps the photograph")
        + party("sent", 126, "Gradient", "<output>nothing yet</output>")
        + party("server", 32, "Server", "<output>noise</output>")
    )
    return f"""<div class="gilib-live" data-live="leak" role="group" aria-label="The live leak">
<div class="gilib-live-parties">{parties}</div>
<p class="gilib-live-buttons">
<button type="button" class="gilib-live-main" data-do="go">Send the gradient and watch</button>
<button type="button" class="gilib-live-main" data-do="stop" hidden>Stop</button>
<button type="button" data-do="take" hidden>Take the photograph</button></p>
<p class="gilib-live-status" role="status"></p>
<fieldset class="gilib-live-photos"><legend>Whose photograph?</legend>{"".join(thumbnails())}
<span><button type="button" data-do="draw">Draw</button>
<button type="button" data-do="camera">Camera</button>
<button type="button" data-do="file">Your file</button>
<input type="file" accept="image/*" hidden aria-label="A picture of your own"></span></fieldset>
{colours()}
<details><summary>Change the network, or defend the client</summary>
<div class="gilib-live-choices">{choices()}</div></details>
<div class="gilib-live-charts" hidden><div class="gilib-live-distance"></div>
<div class="gilib-live-psnr"></div></div>
<p class="gilib-live-note">Everything runs in this page and nothing leaves it. Requests that the page has made since
you chose the picture, but for figures that you scroll to: <b class="gilib-live-requests">0</b>. The server's part is a
thread that receives the gradient and knows the network, nothing else; it reads the label off the last layer. The
client's picture is kept only to show and to score. The ten photographs come back within the 1,500 guesses that the
server has here, some after four times as many as others. A picture of your own, the other network or a defended
gradient may not.</p>
</div>"""
