"""Priors: what an attacker expects of a natural image before seeing any gradient.

A prior is called as ``prior(images)`` with one victim's candidate (B, C, H, W) and returns a scalar that is added to
the matching loss.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Prior(Protocol):
    """A penalty on a candidate, weight included."""

    def __call__(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class TotalVariation:
    """Mean absolute difference of neighbouring pixels, times ``weight``."""

    weight: float

    def __call__(self, images: Tensor) -> Tensor:
        vertical = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
        horizontal = (images[..., :, 1:] - images[..., :, :-1]).abs().mean()
        return self.weight * (vertical + horizontal)


def total_variation(weight: float) -> Prior:
    """Prefer images whose neighbouring pixels are alike (anisotropic total variation, a mean over pixels).

    Adds ``weight * (mean |x[i+1, j] - x[i, j]| + mean |x[i, j+1] - x[i, j]|)``. Implementations differ in whether they
    sum or average over pixels, so weights do not carry over from one to another.

    Source: Geiping et al. (2020), eq. 4.
    """
    return TotalVariation(weight)
