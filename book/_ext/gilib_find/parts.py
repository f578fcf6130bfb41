"""The parts of the book as a picture: what happens at the client, on the way, at the server; with all chapters."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from gilib_find.contents import Chapter, Part, parts

NABLA = ("1111111", "0111110", "0011100", "0001000")  # the logo
PHOTO = ("sssssyys", "sssssyys", "sshhssss", "shhhhsgg", "hhhhhggg", "gggggggg")
FOUND = ("sssSsyys", "ssssSyYs", "sShhssss", "shhHhsgG", "hhhhhGgg", "gGggggGg")  # nearly the same, as attacks find it
BLUE, YELLOW, PURPLE, GREEN, INK = "#7fb2dd", "#f4c95d", "#8a7bb0", "#5d9c74", "#4b72e4"
NEARLY = ("#a3b4c4", "#d8c48a", "#9c86a0", "#7a9a80")
COLOURS = dict(zip("syhgSYHG1", (BLUE, YELLOW, PURPLE, GREEN, *NEARLY, INK), strict=True))


@dataclass(frozen=True)
class Station:
    """A place in the picture: what stands there, and pixels that show it."""

    name: str
    said: str
    pixels: tuple[str, ...] = ()


STATIONS = {
    "client": Station("The client", "keeps its pictures", PHOTO),
    "way": Station("The update", "a gradient, sent in every round", NABLA),
    "server": Station("The server", "wants the pictures back", FOUND),
    "own": Station("Your federation", "what to do about it"),
}
# By the caption of the part: where it stands, what it asks, and how the question goes on.
PLACES = {
    "Foundations": ("way", "What is sent?", "And is one gradient enough?"),
    "Iteration-based attacks": ("server", "Who searches?", "For data with the same gradient."),
    "Recursion-based attacks": ("server", "Who solves?", "For the data, layer by layer."),
    "Defenses": ("client", "Who defends?", "And at which price?"),
    "Practice": ("own", "Does yours leak?", "Try it, and let a build fail on it."),
    "Frontiers": ("own", "What else is shared?", "Other data, other federations."),
}
ELSEWHERE = ("own", "And then?", "")


def markup() -> str:
    """The picture. A part whose caption has no place stands at the end; a test says so."""
    return f'<nav class="gilib-parts" aria-label="The parts of the book">{"".join(map(station, STATIONS))}</nav>'


def station(place: str) -> str:
    """A station with its parts."""
    one = STATIONS[place]
    cards = "".join(card(part) for part in parts() if PLACES.get(part.caption, ELSEWHERE)[0] == place)
    head = f'{drawn(one.pixels)}<p class="gilib-station"><b>{escape(one.name)}</b> {escape(one.said)}</p>'
    return f'<div class="gilib-parts-{place}">{head}{cards}</div>'


def card(part: Part) -> str:
    """A part: its question, which leads to its first chapter, its name and its chapters."""
    _, question, more = PLACES.get(part.caption, ELSEWHERE)
    chapters = "".join(f"<li>{chapter_link(one)}</li>" for one in part.chapters)
    return (
        f'<div class="gilib-part"><p><strong>{escape(question)}</strong> {escape(more)}</p>'
        f'<p class="gilib-part-name">{escape(part.caption)}</p><ul>{chapters}</ul></div>'
    )


def chapter_link(one: Chapter) -> str:
    """A link to a chapter by its number and short name; a pointer that rests on it shows its title."""
    return f'<a href="../{one.document}.html" title="{escape(one.title)}"><b>{one.number}</b> {escape(one.name)}</a>'


def drawn(pixels: tuple[str, ...]) -> str:
    """Pixels as squares, for the eye alone; nothing where there are none."""
    if not pixels:
        return ""
    squares = "".join(
        f'<rect x="{8 * x}" y="{8 * y}" width="7" height="7" rx="1" fill="{COLOURS[letter]}"/>'
        for y, row in enumerate(pixels)
        for x, letter in enumerate(row)
        if letter in COLOURS
    )
    return f'<svg viewBox="0 0 {8 * len(pixels[0])} {8 * len(pixels)}" aria-hidden="true">{squares}</svg>'
