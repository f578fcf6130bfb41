"""Gradient matching: how far a candidate's gradients are from the shared ones.

A matching is called as ``matching(candidate, shared)`` with two dictionaries of the same names and shapes, for one
victim, and returns a scalar that is zero when they agree. The sums run over all layers at once.

Source: the third ingredient of iteration-based attacks in the survey of Zhang et al. (2022).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gilib.federated import Gradients


class Matching(Protocol):
    """A distance between two gradients of the same model."""

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor: ...


@dataclass(frozen=True)
class SquaredL2:
    """Sum of squared differences."""

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor:
        return sum_over_layers((candidate[name] - shared[name]).square().sum() for name in shared)


@dataclass(frozen=True)
class Cosine:
    """One minus the cosine of the angle between the two gradients, each taken as one long vector."""

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor:
        product = sum_over_layers((candidate[name] * shared[name]).sum() for name in shared)
        candidate_square = sum_over_layers(value.square().sum() for value in candidate.values())
        shared_square = sum_over_layers(value.square().sum() for value in shared.values())
        return 1 - product / (candidate_square * shared_square).sqrt()


def squared_l2() -> Matching:
    """``sum over layers of ||g' - g||^2``. Source: DLG, Zhu et al. (2019), eq. 4. Taught in: foundations/first_leak."""
    return SquaredL2()


def cosine() -> Matching:
    """``1 - <g', g> / (||g'|| ||g||)``: only the direction counts, so the scale of the loss does not matter.

    Source: Geiping et al. (2020), eq. 4. The cosine is one over all layers, not one a layer.
    """
    return Cosine()


def sum_over_layers(terms: Iterable[Tensor]) -> Tensor:
    """Add the terms of all layers."""
    first, *rest = terms
    for term in rest:
        first = first + term
    return first
