"""SPEAR: the whole batch, exactly, from one fully connected ReLU layer.

The gradient ``G = D X`` of the first layer has rank B: its rows are mixtures of the B inputs, with the columns of ``D``
as weights. A factorisation ``G = L R`` knows both up to an unknown matrix ``Q`` (B, B): ``D = L Q`` and ``X = Q^-1 R``.
ReLU leaves zeros in ``D`` wherever a sample switches a neuron off. So B - 1 rows of ``L`` in which sample j is off
determine column j of ``Q`` as the one vector orthogonal to them. Which rows those are is found by drawing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.chain import last_linear
from gilib.federated import Update, checked_logits, classes_of, error_scale, probabilities, seeded_generator
from gilib.recursion.door import double_model, is_one_step, is_plain, on_cpu
from gilib.recursion.first_layer import System, system_of
from gilib.recursion.reconstruction import LayerReport, Reconstruction

__all__ = ["BatchReport", "spear"]

_CHUNK = 512  # draws that are worked on at once


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
class _Solution:
    """A candidate for ``Q`` and what follows from it: ``columns`` (m, B) is ``D``, ``inputs`` (B, n) is ``X``."""

    mixing: Tensor
    columns: Tensor
    inputs: Tensor
    leaks: Tensor
    backed: Tensor

    def accepted(self, noise: float, exact: float) -> bool:
        """Whether no sample leaks more than rounding (``exact``), or noise of this deviation, can explain."""
        allowed = 3 * noise * len(self.columns) ** 0.5 * self.mixing.norm(dim=0) / self.columns.norm(dim=0)
        return bool((self.backed & (self.leaks <= exact + allowed.clamp(max=0.1))).all())


def spear(
    model: nn.Module, update: Update, *, seed: int = 0, draws: int = 100_000, guided: bool = True
) -> Reconstruction:
    """Recover the images of a batch from the gradient of a first layer that is fully connected, with bias and ReLU.

    At most ``draws`` sets of rows are drawn. ``guided`` prefers neurons that an average image, estimated from the
    update itself, switches off; without it all rows are equally likely, as in the paper. The images come in no
    particular order, one for every independent input (a duplicate appears once). The one layer of the result is a
    `BatchReport`. ``exact`` is True only if every recovered input passes the check: its own ReLU pattern is that of
    its column of ``D``, which has more zeros than a draw forces. Otherwise the images are a guess. ``labels`` are
    restored after an exact recovery, if the last layer is linear and the update is one step of cross-entropy (or a
    multiple of it); otherwise they are None. The first layer is the one that runs first; behind its ReLU the model may
    branch. Everything is computed in float64 on the CPU; the check allows for the rounding of the update.

    Raises ValueError for a model whose first layer is not fully connected, has no bias, or is not followed by ReLU, for
    a batch larger than the layer, for a gradient that is zero, not finite, in half precision or missing because its
    parameter is frozen, for training with weight decay or Adam, and for ``draws`` under 1.

    Known as: SPEAR, exact recovery of batches (attack). Needs a first layer that is fully connected, with bias and
    ReLU, and wider than the batch.
    Source: Dimitrov et al. (2024); the guided draws and the check are this book's. Taught in: recursion/exact_batches.
    """
    if not isinstance(draws, int) or draws < 1:
        raise ValueError(f"expected draws as a whole number of at least 1, got {draws!r}.")
    system = system_of(model, update)
    with torch.no_grad():
        solution, drawn = _search(system, seeded_generator(seed), draws, guided=guided)
        report = _report(system, solution, unknowns=update.batch_size, draws=drawn)
        images = solution.inputs.unflatten(1, update.image_shape)
        labels = _labels(model, update, images) if report.determined else None
    return Reconstruction(images=images, labels=labels, layers=(report,))


def _search(system: System, generator: torch.Generator, budget: int, *, guided: bool) -> tuple[_Solution, int]:
    """Draw rows until the sparsest directions seen pass the check. Returns the last solution and the draws it took."""
    rank = system.left.shape[1]
    live = (system.left.norm(dim=1) > system.tolerance).nonzero()[:, 0]
    weights = _preferences(system, live) if guided else torch.ones(len(live), dtype=torch.float64, device="cpu")
    basis = torch.eye(rank, dtype=torch.float64, device="cpu")
    seen = torch.zeros(rank, dtype=torch.int64, device="cpu")
    for drawn in range(0, budget, _CHUNK):
        count = min(_CHUNK, budget - drawn)
        rows = live[_draw(weights, count, rank - 1, generator)]
        candidates = torch.cat([basis, _orthogonal(system.left[rows])])
        when = torch.cat([seen, torch.arange(drawn + 1, drawn + count + 1, device="cpu")])
        chosen = _sparsest(candidates, system)
        basis, seen = candidates[chosen], when[chosen]
        solution = _solve(basis, system)
        if solution.accepted(system.noise, system.exact):
            return solution, int(seen.max())
    return solution, budget


def _preferences(system: System, live: Tensor) -> Tensor:
    """The weight of each live row in a draw: large for neurons that switch most samples off.

    A row of the gradient over its bias gradient is an affine mixture of the inputs; the median over rows is near their
    average. What is negative there is off for most samples. The 0.01 keeps every set of rows possible.
    """
    average = (system.gradient[live] / system.bias_gradient[live, None]).nanmedian(dim=0).values
    activity = system.weight[live] @ average + system.bias[live]
    return torch.sigmoid(-4 * activity / activity.square().mean().sqrt()).nan_to_num(0.5) + 0.01


def _draw(weights: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """``count`` sets (count, size) of different rows, drawn in proportion to ``weights``: each set wins a race."""
    times = -torch.rand(count, len(weights), generator=generator, dtype=torch.float64, device="cpu").log() / weights
    return times.topk(size, largest=False).indices


def _orthogonal(rows: Tensor) -> Tensor:
    """The unit vector (N, B) orthogonal to each of N sets of rows (N, B - 1, B); zero where there are several."""
    solved = torch.linalg.solve_ex(rows[..., :-1], rows[..., -1:]).result[..., 0]
    vectors = torch.cat([solved, -rows.new_ones(len(rows), 1)], dim=1)
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    return torch.where(vectors.isfinite().all(dim=1, keepdim=True), vectors, 0)


def _sparsest(candidates: Tensor, system: System) -> Tensor:
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


def _solve(basis: Tensor, system: System) -> _Solution:
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


def _backed(unscaled: Tensor, off: Tensor, system: System) -> Tensor:
    """Which samples (B,) have a zero that the draw did not force, and no zero at a neuron that their input switches on.

    Any B - 1 rows can be made zero. On narrow layers such a direction leaks nothing by luck, so one more is asked for.
    """
    live = system.left.norm(dim=1, keepdim=True) > system.tolerance
    zeros = ((unscaled.abs() < system.tolerance) & live).sum(dim=0)
    silent = ((unscaled.abs() < system.rounding) & ~off).any(dim=0)
    rank = unscaled.shape[1]
    return ((zeros >= rank) | (rank == 1)) & ~silent


def _polished(direction: Tensor, system: System) -> Tensor:
    """The unit vector most nearly orthogonal to all the rows that this direction sets to zero, not only to B - 1."""
    off = system.left[(system.left @ direction).abs() < system.tolerance]
    if len(off) < len(direction):
        return direction
    smallest: Tensor = torch.linalg.svd(off, full_matrices=False)[2][-1]
    return smallest


def _report(system: System, solution: _Solution, *, unknowns: int, draws: int) -> BatchReport:
    """Residual: what of the gradient is left when every neuron that a sample switches off is cleared."""
    on = (system.weight @ solution.inputs.T + system.bias[:, None]) > 0
    left_over = system.gradient - (solution.columns * on) @ solution.inputs
    return BatchReport(
        name=system.name,
        unknowns=unknowns,
        equations=len(system.gradient),
        rank=int((solution.backed & (solution.leaks <= system.exact)).sum()),
        residual=float(left_over.norm() / system.gradient.norm()),
        condition=float(torch.linalg.cond(solution.mixing)),
        draws=draws,
        leaks=tuple(solution.leaks.tolist()),
    )


def _labels(model: nn.Module, update: Update, images: Tensor) -> Tensor | None:
    """The labels (B,) of known images: the last layer's gradient gives ``c (p - y)`` by least squares."""
    working = double_model(model, mode=update.mode)
    if not is_one_step(update) or update.local.clip is not None:
        return None
    try:
        name = last_linear(working, image_shape=update.image_shape)
    except ValueError:
        return None
    if not is_plain(working.get_submodule(name)):
        return None
    seen: list[Tensor] = []
    working.get_submodule(name).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits = checked_logits(lambda _, value: working(value), {}, images)
    gradient = update.gradients.get(f"{name}.weight" if name else "weight")
    scale = error_scale(update.loss, logits.shape[1], samples=len(images), like=logits)
    if gradient is None or scale is None or seen[-1].shape[:-1] != logits.shape[:-1]:
        return None
    errors = torch.linalg.lstsq(seen[-1].T, on_cpu(gradient).T).solution / (scale * update.weight)
    return classes_of(probabilities(logits) - errors)
