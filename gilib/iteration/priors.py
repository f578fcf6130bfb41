"""Priors: what an attacker expects of the victim's data before comparing any gradient.

A prior is called as ``prior(images, targets, view)`` with one victim's candidate, images (B, C, H, W) and targets
(B, K), and with what the server can compute about it: a ``ServerView``. It returns a scalar that is added to the
matching loss. A prior about images alone needs only the first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from gilib.federated import Gradients, Head
from gilib.iteration.statistics import Statistics


@dataclass(frozen=True)
class ServerView:
    """What the server can compute for a candidate, and what it was told about this victim.

    ``logits(images)`` is the model (B, K). ``statistics(images)`` are mean and variance (C,) of what enters each
    batch-norm layer. ``running`` are the statistics that the model carries; ``shared`` those of the victim's batch,
    None where the threat model does not share batch-norm buffers. ``features(images)`` (B, d) are what enters the last
    fully connected layer and ``head`` says which that is (both None for a model without one), ``gradients`` the
    victim's shared gradients.
    """

    logits: Callable[[Tensor], Tensor]
    statistics: Callable[[Tensor], Statistics]
    running: Statistics
    shared: Statistics | None
    features: Callable[[Tensor], Tensor] | None = None
    gradients: Gradients = field(default_factory=dict)
    head: Head | None = None


class Prior(Protocol):
    """A penalty on a candidate, weight included.

    One that compares with batch-norm statistics that the victim shares says so: ``needs_shared_statistics`` is true.
    One that compares features says ``needs_features``.
    """

    def __call__(self, images: Tensor, targets: Tensor, view: ServerView) -> Tensor: ...


@dataclass(frozen=True)
class TotalVariation:
    """Mean absolute difference of neighbouring pixels, times ``weight``."""

    weight: float

    def __call__(self, images: Tensor, targets: Tensor | None = None, view: ServerView | None = None) -> Tensor:
        vertical = images[..., 1:, :] - images[..., :-1, :]
        horizontal = images[..., :, 1:] - images[..., :, :-1]
        ways = [way.abs().mean() for way in (vertical, horizontal) if way.numel()]  # one row has no vertical neighbours
        return self.weight * sum(ways, images.new_zeros(()))


@dataclass(frozen=True)
class SquaredNorm:
    """Mean square of the pixels, times ``weight``."""

    weight: float

    def __call__(self, images: Tensor, targets: Tensor | None = None, view: ServerView | None = None) -> Tensor:
        return self.weight * images.square().mean()


@dataclass(frozen=True)
class LabelFit:
    """Squared distance between the model's prediction for the candidate and the candidate's label, times ``weight``."""

    weight: float

    def __call__(self, images: Tensor, targets: Tensor, view: ServerView) -> Tensor:
        return self.weight * (view.logits(images).softmax(dim=-1) - targets).square().sum(dim=-1).mean()


@dataclass(frozen=True)
class FeatureFit:
    """Squared distance of the candidate's features from those that the gradient gives away, relative, times weight."""

    weight: float

    @property
    def needs_features(self) -> bool:
        """It compares what enters the last layer."""
        return True

    def __call__(self, images: Tensor, targets: Tensor, view: ServerView) -> Tensor:
        if view.features is None or view.head is None or len(images) != 1:
            raise ValueError(
                f"feature_fit() needs a fully connected last layer and one sample in an update; this one has "
                f"{len(images)}. A batch shares only a mixture of its features."
            )
        known = view.head.features(view.gradients)
        return self.weight * (view.features(images)[0] - known).square().sum() / known.square().sum()


@dataclass(frozen=True)
class BatchStatistics:
    """Distance between the candidate's batch-norm statistics and known ones, times ``weight``."""

    weight: float
    shared: bool

    @property
    def needs_shared_statistics(self) -> bool:
        """Whether it compares with batch-norm statistics that the victim shares."""
        return self.shared

    def __call__(self, images: Tensor, targets: Tensor, view: ServerView) -> Tensor:
        known = view.shared if self.shared else view.running
        if known is None:
            raise ValueError(
                "batch_statistics(shared=True) needs the batch-norm statistics of the victim's batch, and this update "
                "does not carry them. Either the threat model gives them (Client(..., mode='train', "
                "share_buffers=True)), or use shared=False, which only needs the model."
            )
        if not known:
            raise ValueError("batch_statistics() needs a model with batch normalization; this one has none.")
        terms = [
            (mean - known_mean).norm() + (variance - known_variance).norm()
            for (mean, variance), (known_mean, known_variance) in zip(view.statistics(images), known, strict=True)
        ]
        return self.weight * torch.stack(terms).sum()


def total_variation(weight: float) -> Prior:
    """Prefer images whose neighbouring pixels are alike (anisotropic total variation, a mean over pixels).

    Adds ``weight * (mean |x[i+1, j] - x[i, j]| + mean |x[i, j+1] - x[i, j]|)``; a direction in which the image is one
    pixel long has no neighbours and adds nothing. Implementations differ in whether they
    sum or average over pixels, so weights do not carry over from one to another.

    Known as: total variation (ingredient). Needs images whose neighbouring pixels are alike.
    Source: Geiping et al. (2020), eq. 4. Taught in: iteration/priors.
    """
    return TotalVariation(weight)


def squared_norm(weight: float) -> Prior:
    """Prefer small pixel values: ``weight * mean x^2``. Source: GradInversion, Yin et al. (2021)."""
    return SquaredNorm(weight)


def label_fit(weight: float) -> Prior:
    """Prefer candidates that the model already assigns to their label: ``weight * mean ||softmax(f(x)) - y||^2``.

    Not a fact about the data but a nudge: an untrained model predicts no image's label, so the weight must be small.

    Source: CPL, Wei et al. (2020), the label-based regularization. Taught in: iteration/initialization.
    """
    return LabelFit(weight)


def feature_fit(weight: float) -> Prior:
    """Prefer candidates whose features are the victim's: ``weight * |h(x) - h|^2 / |h|^2``.

    h is what enters the last fully connected layer; its gradients give it away exactly, by one division (the recursive
    attack on a single layer). Needs one sample an update and a last layer with bias; no knowledge beyond the update.

    Known as: feature fit (ingredient).
    Taught in: recursion/hybrid.
    """
    return FeatureFit(weight)


def batch_statistics(weight: float, *, shared: bool = False) -> Prior:
    """Prefer batches whose batch-norm statistics are known ones: ``weight * sum over layers (|mean| + |variance|)``.

    Each term is the Euclidean norm of a difference. ``shared=False`` compares with the running statistics that the
    model itself carries: averages over its training data. ``shared=True`` compares with the statistics of the victim's
    own batch, as far as the update gives them away: a far stronger assumption.

    Raises ValueError, when the attack starts, for a model without batch norm and for an update without buffers.

    Known as: batch-norm statistics (ingredient). Needs a model with batch norm; with ``shared=True`` the statistics of
    the victim's own batch.
    Source: GradInversion, Yin et al. (2021); the two assumptions are told apart by Huang et al. (2021). Taught in:
    iteration/priors.
    """
    return BatchStatistics(weight, shared)
