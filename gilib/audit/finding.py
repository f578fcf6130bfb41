"""What one check of an audit found, and how a check is tried that may refuse."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from gilib.iteration.reconstruction import NoFiniteStartError

Level = Literal["leak", "partial", "nothing", "no answer", "note"]
"""From images that came back, over labels, features or some names, to nothing, and to checks that could not look."""
REFUSALS = (ValueError, MemoryError, NoFiniteStartError)
"""What attacks raise where they do not apply, do not fit or find nothing. Anything else is an error, and shows."""


@dataclass(frozen=True)
class Pair:
    """The image that came back most clearly, and what a check made of it, both (C, H, W) in [0, 1]."""

    truth: Tensor
    found: Tensor
    psnr: float


@dataclass(frozen=True)
class Finding:
    """One row of the report: what was tried, how it ended, and the numbers behind that.

    ``assumes`` is what the check was given beyond the threat model, such as the labels. ``unadapted`` are the client's
    defenses that it takes no account of: there its failure says little.
    """

    check: str
    level: Level
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    assumes: tuple[str, ...] = ()
    unadapted: tuple[str, ...] = ()
    clearest: Pair | None = field(default=None, repr=False)

    @property
    def said(self) -> str:
        """The text, with what the check was given and what it is not adapted to."""
        more = {"given": self.assumes, "not adapted to": self.unadapted}
        return self.text + "".join(f" ({what}: {', '.join(names)})" for what, names in more.items() if names)

    @property
    def kind(self) -> str:
        """The check, whether it ran for a short time or for the rest."""
        return self.check.removeprefix("chosen ")

    def as_json(self) -> dict[str, Any]:
        """Everything but the images."""
        return {
            "check": self.check,
            "level": self.level,
            "text": self.text,
            "numbers": self.numbers,
            "seconds": round(self.seconds, 1),
            "assumes": list(self.assumes),
            "unadapted": list(self.unadapted),
        }


def looked(findings: Iterable[Finding], *, adapted: bool) -> set[str]:
    """The kinds of checks that could look; ``adapted``: those that took account of every defense."""
    return {one.kind for one in findings if one.level not in ("note", "no answer") and not (adapted and one.unadapted)}


def attempt(name: str, check: Callable[[], Finding]) -> Finding:
    """What a check finds, with its seconds; a finding without an answer where it says that it does not apply."""
    began = time.perf_counter()
    try:
        found = check()
    except REFUSALS as error:
        found = Finding(name, "no answer", str(error))
    return replace(found, seconds=time.perf_counter() - began)
