"""Gradient matching: how far a candidate's gradients are from the shared ones.

A matching is called as ``matching(candidate, shared)`` with two dictionaries of the same names and shapes, for one
victim, and returns a scalar that is zero when they agree. The sums run over all layers at once.

Known as: gradient matching (ingredient). Needs no more than the update. Taught in: iteration/matching.
Source: the third ingredient of iteration-based attacks in the survey of Zhang et al. (2022).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gilib.federated import Gradients

Bounds = Callable[[Tensor], tuple[Tensor, Tensor]]


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
    """One minus the cosine of the angle between the two gradients, each taken as one long vector.

    A candidate whose gradient vanishes, as behind a saturated softmax, is at distance one.
    """

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor:
        product = sum_over_layers((candidate[name] * shared[name]).sum() for name in shared)
        candidate_square = sum_over_layers(value.square().sum() for value in candidate.values())
        shared_square = sum_over_layers(value.square().sum() for value in shared.values())
        squares = candidate_square * shared_square
        return 1 - product / torch.where(squares >= torch.finfo(squares.dtype).tiny, squares, 1).sqrt()


@dataclass(frozen=True)
class L1:
    """Sum of absolute differences."""

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor:
        return sum_over_layers((candidate[name] - shared[name]).abs().sum() for name in shared)


@dataclass(frozen=True)
class Tag:
    """Squared differences plus ``alpha`` times absolute ones, the latter weighted more in early layers."""

    alpha: float

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor:
        share = early_layers(shared)
        return sum_over_layers(
            (candidate[name] - shared[name]).square().sum()
            + self.alpha * share[name] * (candidate[name] - shared[name]).abs().sum()
            for name in shared
        )


@dataclass(frozen=True)
class GaussianKernel:
    """One minus a Gaussian of the difference, a layer at a time, its width taken from the shared gradient."""

    width: float

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor:
        share = early_layers(shared)
        return sum_over_layers(
            share[name] * (1 - torch.exp(-(candidate[name] - shared[name]).square().sum() / self.scale(shared[name])))
            for name in shared
        )

    def scale(self, layer: Tensor) -> Tensor:
        """The squared width of the kernel for one layer: ``width^2`` times the squared norm of its shared gradient."""
        return self.width**2 * layer.square().sum() + torch.finfo(layer.dtype).tiny


@dataclass(frozen=True)
class Wasserstein:
    """Squared Wasserstein-2 distance between the values of each layer's two gradients, positions forgotten."""

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor:
        return sum_over_layers(
            (candidate[name].flatten().sort().values - shared[name].flatten().sort().values).square().sum()
            for name in shared
        )


@dataclass(frozen=True)
class Weighted:
    """Another matching, after both gradients of each layer have been multiplied by that layer's weight."""

    matching: Matching
    weights: tuple[tuple[str, float], ...]

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor:
        weights = dict(self.weights)
        if unknown := weights.keys() - shared.keys():
            raise ValueError(
                f"weighted() got weights for {sorted(unknown)}; the model's parameters are {list(shared)}."
            )
        scaled = [
            {name: weights.get(name, 1.0) * value for name, value in side.items()} for side in (candidate, shared)
        ]
        return self.matching(*scaled)


@dataclass(frozen=True)
class SentOnly:
    """Another matching, over the entries that the client sent: those that are not zero in the shared gradient."""

    matching: Matching

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor:
        sent = {name: candidate[name] * (value != 0) for name, value in shared.items()}
        return self.matching(sent, shared)


@dataclass(frozen=True)
class Within:
    """Another matching, between the candidate and the point nearest to it of what the shared gradient allows."""

    matching: Matching
    bounds: Bounds

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor:
        nearest = {name: candidate[name].clamp(*self.bounds(value)) for name, value in shared.items()}
        return self.matching(candidate, nearest)


@dataclass(frozen=True)
class PrunedBounds:
    """What was sent is exact; what was pruned is no larger than the smallest entry of its tensor that was sent."""

    def __call__(self, shared: Tensor) -> tuple[Tensor, Tensor]:
        sent = shared != 0
        reach = shared.abs().masked_fill(~sent, torch.inf).amin()
        return shared.where(sent, -reach), shared.where(sent, reach)


@dataclass(frozen=True)
class QuantizedBounds:
    """Half a step to either side of the level, a whole one for stochastic rounding, and never beyond the last level."""

    bits: int
    stochastic: bool

    def __call__(self, shared: Tensor) -> tuple[Tensor, Tensor]:
        peak = shared.abs().amax()
        reach = (2 if self.stochastic else 1) * peak / (2**self.bits - 1)
        return (shared - reach).maximum(-peak), (shared + reach).minimum(peak)


@dataclass(frozen=True)
class SignBounds:
    """Everything on the same side of zero."""

    def __call__(self, shared: Tensor) -> tuple[Tensor, Tensor]:
        far = torch.full_like(shared, torch.inf)
        return (-far).where(shared < 0, 0), far.where(shared > 0, 0)


def squared_l2() -> Matching:
    """``sum over layers of ||g' - g||^2``. Source: DLG, Zhu et al. (2019), eq. 4. Taught in: foundations/first_leak."""
    return SquaredL2()


def cosine() -> Matching:
    """``1 - <g', g> / (||g'|| ||g||)``: only the direction counts, so the scale of the loss does not matter.

    Known as: cosine matching (ingredient). Needs no more than the update.
    Source: Geiping et al. (2020), eq. 4. The cosine is one over all layers, not one a layer. Taught in:
    iteration/matching.
    """
    return Cosine()


def l1() -> Matching:
    """``sum over layers of |g' - g|``: large entries count less than in squares. Taught in: iteration/matching."""
    return L1()


def tag(alpha: float = 0.1) -> Matching:
    """``sum over layers of ||g' - g||^2 + alpha w |g' - g|``, with w falling from 1 at the input to 1/L at the output.

    The paper asks for more weight in early layers; how fast it falls is our choice.

    Known as: TAG (ingredient). Needs no more than the update.
    Source: TAG, Deng et al. (2021). Taught in: iteration/matching.
    """
    return Tag(alpha)


def gaussian_kernel(width: float = 1.0) -> Matching:
    """``sum over layers of w (1 - exp(-||g' - g||^2 / s))``, s being ``width^2 ||g||^2`` of the shared layer.

    Far away it is flat, so that an outlier counts no more than once. Raises ValueError for a width that is not
    positive. The paper adapts s to the variance of the shared gradient; over all entries that is ``||g||^2`` up to the
    layer's size, which the ``width`` here leaves out.

    Known as: SAPAG, Gaussian kernel (ingredient). Needs no more than the update.
    Source: SAPAG, Wang et al. (2020). Taught in: iteration/matching.
    """
    if not width > 0:
        raise ValueError(f"gaussian_kernel() needs a positive width; got {width}.")
    return GaussianKernel(width)


def wasserstein() -> Matching:
    """``sum over layers of ||sort(g') - sort(g)||^2``: which values occur, not where.

    In one dimension the optimal transport is to sort both sides, so no iterations are needed. It can be zero where the
    gradients differ.

    Known as: WDLG, Wasserstein distance (ingredient). Needs no more than the update.
    Source: the idea of WDLG, Wang et al. (2023), without their dual iterations. Taught in: iteration/matching.
    """
    return Wasserstein()


def weighted(matching: Matching, weights: Mapping[str, float]) -> Matching:
    """``matching`` between gradients whose layers are scaled first: ``weights`` is parameter name to factor.

    Names that are not listed keep the factor 1; a factor of 0 leaves a layer out. For squared L2 a factor counts
    squared. Raises ValueError, once it is used, for names that the model does not have.

    Taught in: iteration/matching.
    """
    return Weighted(matching, tuple(weights.items()))


def sent_only(matching: Matching) -> Matching:
    """``matching`` over the entries of the shared gradient that are not zero, for an update that was pruned.

    The adaptive attack on sparse updates: at the true input the distance is zero again.

    Taught in: iteration/generative.
    """
    return SentOnly(matching)


def within_pruned(matching: Matching) -> Matching:
    """``matching`` to the nearest gradient that pruning would have made the shared one.

    Like ``sent_only``, but what was not sent counts where it exceeds the smallest entry of its tensor that was sent.
    Holds for ``pruning`` of either scope, and not for updates whose zeros have another reason.

    Ours. Taught in: defenses/gradient.
    """
    return Within(matching, PrunedBounds())


def within_quantized(matching: Matching, bits: int, *, stochastic: bool = False) -> Matching:
    """``matching`` to the nearest gradient that ``quantization(bits)`` would have made the shared one.

    With squared L2 that is the sum over entries of ``max(0, |g' - q| - s/2)^2``, s being the step: what lies in the
    interval of its level costs nothing. The largest entry of a tensor gives its step away.

    Ours. Taught in: defenses/gradient.
    """
    return Within(matching, QuantizedBounds(bits, stochastic))


def within_signs(matching: Matching) -> Matching:
    """``matching`` to the nearest gradient with the signs of the shared one: entries of the wrong sign count.

    With squared L2 that is the sum over them of ``g'^2``, which also shrinks with the whole gradient; cosine does not.

    Ours; the idea is the consistency of one-bit compressed sensing. Taught in: defenses/gradient.
    """
    return Within(matching, SignBounds())


def early_layers(gradients: Gradients) -> dict[str, float]:
    """Weights that fall evenly from 1 for the first parameter to ``1/L`` for the last of L."""
    count = len(gradients)
    return {name: (count - index) / count for index, name in enumerate(gradients)}


def sum_over_layers(terms: Iterable[Tensor]) -> Tensor:
    """Add the terms of all layers."""
    first, *rest = terms
    for term in rest:
        first = first + term
    return first
