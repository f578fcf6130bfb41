"""SPEAR: the whole batch, exactly, from one fully connected ReLU layer.

The gradient ``G = D X`` of the first layer has rank B: its rows are mixtures of the B inputs, with the columns of ``D``
as weights. A factorisation ``G = L R`` knows both up to an unknown matrix ``Q`` (B, B): ``D = L Q`` and ``X = Q^-1 R``.
ReLU leaves zeros in ``D`` wherever a sample switches a neuron off. So B - 1 rows of ``L`` in which sample j is off
determine column j of ``Q`` as the one vector orthogonal to them. Which rows those are is found by drawing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.federated import Update, cross_entropy, seeded_generator, working_copy
from gilib.recursion.network import leaves
from gilib.recursion.reconstruction import LayerReport, Reconstruction

__all__ = ["BatchReport", "spear"]

_CHUNK = 512  # draws that are worked on at once
_EXACT = 1e-6  # what a true sample may at most leak through neurons that it switches off: rounding, not data


@dataclass(frozen=True)
class BatchReport(LayerReport):
    """How the batch of one layer was separated: ``unknowns`` samples, of which ``rank`` passed the check.

    ``draws`` is the number of draws after which all directions had been seen, or the whole budget if the check never
    passed. ``leaks`` has one number a sample: the share (of the norm) of its column of ``D`` that lies on neurons which
    the recovered input switches off. The truth has 0 there. ``condition`` is that of the mixing matrix ``Q``.
    """

    draws: int
    leaks: tuple[float, ...]


@dataclass(frozen=True)
class _System:
    """What the server has: the layer, its gradients, and a factorisation ``gradient = left @ right``."""

    name: str
    weight: Tensor
    bias: Tensor
    gradient: Tensor
    bias_gradient: Tensor
    left: Tensor
    right: Tensor
    noise: float

    @property
    def rounding(self) -> float:
        """Entries of ``left`` times a unit vector that are below this are zero up to rounding."""
        return 1e-9 * float(self.left.norm(dim=0).max())

    @property
    def tolerance(self) -> float:
        """Below this they count as zero: rounding, or three standard deviations of whatever noise there is."""
        return max(self.rounding, 3 * self.noise)


@dataclass(frozen=True)
class _Solution:
    """A candidate for ``Q`` and what follows from it: ``columns`` (m, B) is ``D``, ``inputs`` (B, n) is ``X``."""

    mixing: Tensor
    columns: Tensor
    inputs: Tensor
    leaks: Tensor
    backed: Tensor

    def accepted(self, noise: float) -> bool:
        """Whether no sample leaks more than rounding, or noise of this standard deviation, can explain."""
        allowed = 3 * noise * len(self.columns) ** 0.5 * self.mixing.norm(dim=0) / self.columns.norm(dim=0)
        return bool((self.backed & (self.leaks <= _EXACT + allowed.clamp(max=0.1))).all())


def spear(
    model: nn.Module, update: Update, *, seed: int = 0, draws: int = 100_000, guided: bool = True
) -> Reconstruction:
    """Recover the images of a batch from the gradient of a first layer that is fully connected, with bias and ReLU.

    At most ``draws`` sets of rows are drawn. ``guided`` prefers neurons that an average image, estimated from the
    update itself, switches off; without it all rows are equally likely, as in the paper. The images come in no
    particular order, one for every independent input (a duplicate appears once). The one layer of the result is a
    `BatchReport`. ``exact`` is True only if every recovered input passes the check: its own ReLU pattern is that of
    its column of ``D``, which has more zeros than a draw forces. Otherwise the images are a guess. ``labels`` are
    restored after an exact recovery, if the last layer is linear and the update is one step of cross-entropy;
    otherwise they are None.

    Raises ValueError for a model whose first layer is not fully connected, has no bias, or is not followed by ReLU, for
    a batch larger than the layer, for a gradient that is zero or not finite, and for ``draws`` under 1.

    Source: Dimitrov et al. (2024); the guided draws and the check are this book's. Taught in: recursion/exact_batches.
    """
    if not isinstance(draws, int) or draws < 1:
        raise ValueError(f"expected draws as a whole number of at least 1, got {draws!r}.")
    system = _system(model, update)
    with torch.no_grad():
        solution, drawn = _search(system, seeded_generator(seed), draws, guided=guided)
        report = _report(system, solution, unknowns=update.batch_size, draws=drawn)
        images = solution.inputs.unflatten(1, update.image_shape)
        labels = _labels(model, update, images) if report.determined else None
    return Reconstruction(images=images, labels=labels, layers=(report,))


def _system(model: nn.Module, update: Update) -> _System:
    """The equations of the first layer, in float64."""
    name, layer = _first_layer(model)
    if not {f"{name}.weight", f"{name}.bias"} <= update.gradients.keys():
        raise ValueError(f"expected gradients of {name}.weight and {name}.bias, got {sorted(update.gradients)}.")
    gradient = update.gradients[f"{name}.weight"].detach().double()
    bias_gradient = update.gradients[f"{name}.bias"].detach().double()
    if not (gradient.isfinite().all() and bias_gradient.isfinite().all()) or not gradient.any():
        raise ValueError(f"expected a finite gradient of layer {name!r} that is not zero: there is nothing to recover.")
    batch = update.batch_size
    if batch > min(gradient.shape):
        raise ValueError(
            f"layer {name!r} maps {gradient.shape[1]} inputs to {gradient.shape[0]} neurons; a batch of {batch} needs "
            f"at least {batch} of both. Attack a smaller batch or a wider layer."
        )
    _, sizes, directions = torch.linalg.svd(gradient, full_matrices=False)
    rank = int((sizes[:batch] > 1e-10 * sizes[0]).sum())
    rest = (gradient.shape[0] - batch) * (gradient.shape[1] - batch)
    noise = float(sizes[batch:].norm()) / max(rest, 1) ** 0.5
    right = directions[:rank]
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    return _System(name, weight, bias, gradient, bias_gradient, gradient @ right.T, right, noise)


def _first_layer(model: nn.Module) -> tuple[str, nn.Linear]:
    """The name of the first layer and the layer, or a ValueError that names what does not fit."""
    if not isinstance(model, nn.Sequential):
        raise ValueError(f"expected a torch.nn.Sequential of layers, got {type(model).__name__}.")
    parts = [part for part in leaves(model) if not isinstance(part[1], nn.Flatten | nn.Identity)]
    parts += [("nothing", nn.Identity())] * 2
    (name, first), (after, activation) = parts[:2]
    if not isinstance(first, nn.Linear):
        raise ValueError(
            f"expected a fully connected first layer (Linear), got {name!r} ({type(first).__name__}). A gradient that "
            "is summed over positions has more than B terms."
        )
    if first.bias is None:
        raise ValueError(f"layer {name!r} has no bias: without its gradient the scale of the samples stays unknown.")
    if not isinstance(activation, nn.ReLU):
        raise ValueError(
            f"expected ReLU after layer {name!r}, got {after!r} ({type(activation).__name__}). Only ReLU leaves exact "
            "zeros in the gradient, and the zeros are what separates the samples."
        )
    return name, first


def _search(system: _System, generator: torch.Generator, budget: int, *, guided: bool) -> tuple[_Solution, int]:
    """Draw rows until the sparsest directions seen pass the check. Returns the last solution and the draws it took."""
    rank = system.left.shape[1]
    live = (system.left.norm(dim=1) > system.tolerance).nonzero()[:, 0]
    weights = _preferences(system, live) if guided else torch.ones(len(live), dtype=torch.float64)
    basis, seen = torch.eye(rank, dtype=torch.float64), torch.zeros(rank, dtype=torch.int64)
    for drawn in range(0, budget, _CHUNK):
        count = min(_CHUNK, budget - drawn)
        rows = live[_draw(weights, count, rank - 1, generator)]
        candidates = torch.cat([basis, _orthogonal(system.left[rows])])
        when = torch.cat([seen, torch.arange(drawn + 1, drawn + count + 1)])
        chosen = _sparsest(candidates, system)
        basis, seen = candidates[chosen], when[chosen]
        solution = _solve(basis, system)
        if solution.accepted(system.noise):
            return solution, int(seen.max())
    return solution, budget


def _preferences(system: _System, live: Tensor) -> Tensor:
    """The weight of each live row in a draw: large for neurons that switch most samples off.

    A row of the gradient over its bias gradient is an affine mixture of the inputs; the median over rows is near their
    average. What is negative there is off for most samples. The 0.01 keeps every set of rows possible.
    """
    average = (system.gradient[live] / system.bias_gradient[live, None]).nanmedian(dim=0).values
    activity = system.weight[live] @ average + system.bias[live]
    return torch.sigmoid(-4 * activity / activity.square().mean().sqrt()).nan_to_num(0.5) + 0.01


def _draw(weights: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """``count`` sets (count, size) of different rows, drawn in proportion to ``weights``: each set wins a race."""
    times = -torch.rand(count, len(weights), generator=generator, dtype=torch.float64).log() / weights
    return times.topk(size, largest=False).indices


def _orthogonal(rows: Tensor) -> Tensor:
    """The unit vector (N, B) orthogonal to each of N sets of rows (N, B - 1, B); zero where there are several."""
    solved = torch.linalg.solve_ex(rows[..., :-1], rows[..., -1:]).result[..., 0]
    vectors = torch.cat([solved, -rows.new_ones(len(rows), 1)], dim=1)
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    return torch.where(vectors.isfinite().all(dim=1, keepdim=True), vectors, 0)


def _sparsest(candidates: Tensor, system: _System) -> Tensor:
    """The greedy basis: again and again the candidate with most zeros among those independent of what was chosen."""
    products = system.left @ candidates.T
    zeros = (products.abs() < system.tolerance).sum(dim=0)
    # In these coordinates the angle between two candidates is that between their columns of D.
    rest = candidates * system.left.norm(dim=0)
    rest = (rest / rest.norm(dim=1, keepdim=True)).nan_to_num(0)
    chosen = []
    for _ in range(candidates.shape[1]):
        free = rest.norm(dim=1) > 0.01  # what is nearer than that is the same direction found twice
        best = torch.where(free, zeros, -1).argmax()
        unit = rest[best] / rest[best].norm()
        rest = rest - torch.outer(rest @ unit, unit)
        chosen.append(best)
    return torch.stack(chosen)


def _solve(basis: Tensor, system: _System) -> _Solution:
    """Polish the directions on all their zeros, scale them with the bias gradient, and check the inputs that follow."""
    directions = torch.stack([_polished(direction, system) for direction in basis], dim=1)
    unscaled = system.left @ directions
    scales = torch.linalg.lstsq(unscaled, system.bias_gradient[:, None]).solution[:, 0]
    scales = torch.where(scales == 0, 1, scales)
    columns = unscaled * scales
    inputs = torch.linalg.lstsq(directions * scales, system.right).solution
    off = (system.weight @ inputs.T + system.bias[:, None]) <= 0
    leaks = (columns * off).norm(dim=0) / columns.norm(dim=0)
    return _Solution(directions * scales, columns, inputs, leaks, _backed(unscaled, off, system))


def _backed(unscaled: Tensor, off: Tensor, system: _System) -> Tensor:
    """Which samples (B,) have a zero that the draw did not force, and no zero at a neuron that their input switches on.

    Any B - 1 rows can be made zero. On narrow layers such a direction leaks nothing by luck, so one more is asked for.
    """
    live = system.left.norm(dim=1, keepdim=True) > system.tolerance
    zeros = ((unscaled.abs() < system.tolerance) & live).sum(dim=0)
    silent = ((unscaled.abs() < system.rounding) & ~off).any(dim=0)
    rank = unscaled.shape[1]
    return ((zeros >= rank) | (rank == 1)) & ~silent


def _polished(direction: Tensor, system: _System) -> Tensor:
    """The unit vector most nearly orthogonal to all the rows that this direction sets to zero, not only to B - 1."""
    off = system.left[(system.left @ direction).abs() < system.tolerance]
    if len(off) < len(direction):
        return direction
    smallest: Tensor = torch.linalg.svd(off, full_matrices=False)[2][-1]
    return smallest


def _report(system: _System, solution: _Solution, *, unknowns: int, draws: int) -> BatchReport:
    """Residual: what of the gradient is left when every neuron that a sample switches off is cleared."""
    on = (system.weight @ solution.inputs.T + system.bias[:, None]) > 0
    left_over = system.gradient - (solution.columns * on) @ solution.inputs
    return BatchReport(
        name=system.name,
        unknowns=unknowns,
        equations=len(system.gradient),
        rank=int((solution.backed & (solution.leaks <= _EXACT)).sum()),
        residual=float(left_over.norm() / system.gradient.norm()),
        condition=float(torch.linalg.cond(solution.mixing)),
        draws=draws,
        leaks=tuple(solution.leaks.tolist()),
    )


def _labels(model: nn.Module, update: Update, images: Tensor) -> Tensor | None:
    """The labels (B,) of known images: the last layer's gradient gives ``p - y`` by least squares."""
    *body, (name, last) = leaves(working_copy(model, mode=update.mode).double())
    if not isinstance(last, nn.Linear) or update.loss is not cross_entropy or update.local.steps > 1:
        return None
    features = nn.Sequential(*(layer for _, layer in body))(images)
    gradient = update.gradients[f"{name}.weight"].double()
    errors = len(images) * torch.linalg.lstsq(features.T, gradient.T).solution
    return (torch.softmax(last(features), dim=1) - errors).argmax(dim=1)
