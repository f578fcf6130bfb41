"""Priors: what an attacker expects of the victim's data before comparing any gradient.

A prior is called as ``prior(images, targets, forward)`` with one victim's candidate: images (B, C, H, W), targets
(B, K) and the model as a function from images to logits (B, K). It returns a scalar that is added to the matching loss.
A prior about images alone needs only the first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

Logits = Callable[[Tensor], Tensor]


class Prior(Protocol):
    """A penalty on a candidate, weight included."""

    def __call__(self, images: Tensor, targets: Tensor, forward: Logits) -> Tensor: ...


@dataclass(frozen=True)
class TotalVariation:
    """Mean absolute difference of neighbouring pixels, times ``weight``."""

    weight: float

    def __call__(self, images: Tensor, targets: Tensor | None = None, forward: Logits | None = None) -> Tensor:
        vertical = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
        horizontal = (images[..., :, 1:] - images[..., :, :-1]).abs().mean()
        return self.weight * (vertical + horizontal)


@dataclass(frozen=True)
class LabelFit:
    """Squared distance between the model's prediction for the candidate and the candidate's label, times ``weight``."""

    weight: float

    def __call__(self, images: Tensor, targets: Tensor, forward: Logits) -> Tensor:
        return self.weight * (forward(images).softmax(dim=-1) - targets).square().sum(dim=-1).mean()


def label_fit(weight: float) -> Prior:
    """Prefer candidates that the model already assigns to their label: ``weight * mean ||softmax(f(x)) - y||^2``.

    Not a fact about the data but a nudge: an untrained model predicts no image's label, so the weight must be small.

    Source: CPL, Wei et al. (2020), the label-based regularization. Taught in: iteration/initialization.
    """
    return LabelFit(weight)


def total_variation(weight: float) -> Prior:
    """Prefer images whose neighbouring pixels are alike (anisotropic total variation, a mean over pixels).

    Adds ``weight * (mean |x[i+1, j] - x[i, j]| + mean |x[i, j+1] - x[i, j]|)``. Implementations differ in whether they
    sum or average over pixels, so weights do not carry over from one to another.

    Source: Geiping et al. (2020), eq. 4.
    """
    return TotalVariation(weight)
