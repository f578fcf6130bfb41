"""What an audit is allowed to do and to know, and when it calls something a leak."""

from dataclasses import dataclass
from typing import Literal

from gilib import metrics

Threat = Literal["A", "B", "C", "D", "E"]
KNOWN: dict[Threat, str] = {
    "A": "the model and the update",
    "B": "the model, the update, and what holds for images in general",
    "C": "the model, the update, what holds for images in general, and how the client trains",
    "D": "all of C, and public images of the kind, or a generator that draws such images",
    "E": "all of D, and the batch-norm statistics that the client returns",
}
"""What the server knows beside the protocol, by the letter of foundations/federated_learning that the audit runs."""


@dataclass(frozen=True)
class Settings:
    """The settings of an audit.

    ``seconds`` is the time for everything, of which the searches take most. With ``iterations`` searches are measured
    in evaluations instead: the chosen one has so many, every other a quarter of them, and the same settings give the
    same report however fast the machine is. ``threat`` is what the server knows. An image is recovered from
    ``recovered`` decibels (PSNR) on, and images leak as well where at least the share ``named`` of them is nearest to
    its own original among all candidates. ``seed`` starts the searches. Raises ValueError for values out of range.
    """

    seconds: float = 90.0
    iterations: int | None = None
    threat: Threat = "C"
    recovered: float = metrics.RECOVERED
    named: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.seconds < float("inf"):
            raise ValueError(f"expected at least one second, got seconds={self.seconds}.")
        if self.iterations is not None and self.iterations < 4:
            raise ValueError(f"expected at least four iterations, or None for a time, got {self.iterations}.")
        if self.threat not in KNOWN:
            raise ValueError(
                f"expected a threat model of {', '.join(KNOWN)}, got {self.threat!r}. F to H are servers that change "
                "what they send, and this audit has none."
            )
        if not self.recovered > 0 or not 0 < self.named <= 1:
            raise ValueError(
                "expected recovered as decibels above 0 and named as a share in (0, 1]; "
                f"got {self.recovered} and {self.named}."
            )

    @property
    def surrogate(self) -> bool:
        """Whether the server has images of the kind."""
        return self.threat in ("D", "E")
