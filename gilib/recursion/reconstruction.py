"""What a recursion returns: the images, and for every layer that it solved, how well that layer determined them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LayerReport:
    """One layer's linear system: how many numbers it was to find, from how many equations, and how well.

    ``rank`` is the numerical rank of the system, ``residual`` the norm of what the solution leaves unexplained relative
    to the right-hand side, ``condition`` the ratio of the largest to the smallest singular value that counts.
    """

    name: str
    unknowns: int
    equations: int
    rank: int
    residual: float
    condition: float

    @property
    def determined(self) -> bool:
        """Whether the layer has one solution. Otherwise its answer is only the shortest of many."""
        return self.rank >= self.unknowns


@dataclass(frozen=True)
class Reconstruction:
    """What the recursion recovered from one update.

    ``images`` (B, C, H, W) as they came out, not clamped. ``labels`` (B,) int64, or None where the recursion does not
    find them. ``layers`` reports on every layer that was solved, from the last to the first.
    """

    images: Tensor
    labels: Tensor | None
    layers: tuple[LayerReport, ...]

    @property
    def exact(self) -> bool:
        """Whether every layer had one solution. False is a warning that the images are only a guess."""
        return all(layer.determined for layer in self.layers)
