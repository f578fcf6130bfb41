"""L-BFGS for a whole stack of candidates, with every inner product, line search and restart kept per row.

``torch.optim.LBFGS`` sees one long vector: stacking victims in it would mix their curvatures. Here each row of the
stack (N, D) has its own memory and its own step size, and one evaluation of the stack serves all rows, whatever phase
of their line search they are in.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gilib.iteration.optimizers import Optimizer, Stepper, not_finite

ARMIJO = 1e-4  # share of the predicted decrease that a step must bring
CURVATURE = 0.9  # share of the slope that must be gone after the step


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS with a weak-Wolfe bisection line search."""

    history: int = 100
    trials: int = 25

    @property
    def copies(self) -> int:
        """How many copies of a candidate it keeps, for the steps and the changes."""
        return 2 * self.history

    def begin(self, candidates: Tensor, iterations: int) -> Stepper:
        return LBFGSStepper(self, candidates)


class LBFGSStepper:
    """For each row: the base point, the direction, the bracket of the step size, and the last pairs (s, y).

    Of the pairs it also keeps the inner products ``s_i . y_j`` and ``y_i . y_j``, (N, m, m), so that a direction
    costs four products with the stored pairs instead of a loop over them.
    """

    def __init__(self, settings: LBFGS, candidates: Tensor) -> None:
        rows, size = candidates.shape
        self.settings = settings
        self.rows = torch.arange(rows, device=candidates.device)
        self.point, self.gradient, self.direction = (torch.zeros_like(candidates) for _ in range(3))
        self.loss, self.slope, self.length, self.low, self.high = candidates.new_zeros(5, rows).unbind()
        self.trial = torch.zeros_like(self.rows)
        self.fresh = torch.ones_like(self.rows, dtype=torch.bool)
        self.steps, self.changes = candidates.new_zeros(2, rows, settings.history, size).unbind()
        self.step_change, self.change_change = candidates.new_zeros(
            2, rows, settings.history, settings.history
        ).unbind()
        self.newest = torch.zeros_like(self.rows)

    def step(self, candidates: Tensor, losses: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        failed = not_finite(losses, gradients)
        decreased = ~failed & (losses <= self.loss + ARMIJO * self.length * self.slope)
        flatter = dot(gradients, self.direction) >= CURVATURE * self.slope
        exhausted = self.trial >= self.settings.trials
        accepted = self.fresh | (decreased & (flatter | exhausted))
        stuck = (~self.fresh & ~decreased & exhausted) | (self.fresh & failed)
        products = self._remember(accepted & ~self.fresh, candidates, gradients)
        self._move(accepted, candidates, losses, gradients, products)
        self._bracket(accepted, decreased)
        return self.point + self.length[:, None] * self.direction, stuck

    def restart(self, rows: Tensor) -> None:
        self.fresh = self.fresh | rows
        for memory in (self.steps, self.changes, self.step_change, self.change_change):
            memory[rows] = 0

    def _remember(self, accepted: Tensor, candidates: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the pair of an accepted step where its curvature is positive, in place of the oldest one.

        Returns the products of the stored steps and of the stored changes with the gradients, (N, m) each: one pass
        over the memory yields them together with the inner products of the new pair.
        """
        steps, changes = candidates - self.point, gradients - self.gradient
        useful = accepted & (dot(steps, changes) > 1e-10 * dot(changes, changes))
        rows = useful.nonzero().squeeze(1)
        self.newest[rows] = (self.newest[rows] + 1) % self.settings.history
        place = (rows, self.newest[rows])
        self.steps[place], self.changes[place] = steps[rows], changes[rows]
        vectors = torch.stack([steps, changes, gradients], dim=1)
        with_steps, with_changes = vectors @ self.steps.mT, vectors @ self.changes.mT
        self.step_change[rows, :, self.newest[rows]] = with_steps[rows, 1]
        self.step_change[place] = with_changes[rows, 0]
        self.change_change[rows, :, self.newest[rows]] = with_changes[rows, 1]
        self.change_change[place] = with_changes[rows, 1]
        return with_steps[:, 2], with_changes[:, 2]

    def _move(
        self,
        accepted: Tensor,
        candidates: Tensor,
        losses: Tensor,
        gradients: Tensor,
        products: tuple[Tensor, Tensor],
    ) -> None:
        """Make the accepted candidates the new base points and choose their directions."""
        column = accepted[:, None]
        self.point = torch.where(column, candidates, self.point)
        self.gradient = torch.where(column, gradients, self.gradient)
        self.loss = torch.where(accepted, losses, self.loss)
        self.direction = torch.where(column, -self._inverse_hessian_times(gradients, *products), self.direction)
        self.slope = torch.where(accepted, dot(self.gradient, self.direction), self.slope)

    def _bracket(self, accepted: Tensor, decreased: Tensor) -> None:
        """Choose the next step size: one at a new point, else halfway into the bracket, or double while it is open."""
        low = torch.where(decreased, self.length, self.low)
        high = torch.where(decreased, self.high, self.length)
        inside = torch.where(high.isinf(), 2 * low, (low + high) / 2)
        cautious = (1 / self.gradient.abs().sum(dim=1)).clamp(max=1)
        first = torch.where(self.change_change.any(dim=2).any(dim=1), torch.ones_like(low), cautious)
        self.length = torch.where(accepted, first, inside)
        self.low = torch.where(accepted, torch.zeros_like(low), low)
        self.high = torch.where(accepted, torch.full_like(high, torch.inf), high)
        self.trial = torch.where(accepted, torch.zeros_like(self.trial), self.trial + 1)
        self.fresh = torch.zeros_like(self.fresh)

    def _inverse_hessian_times(self, vectors: Tensor, step_products: Tensor, change_products: Tensor) -> Tensor:
        """The two-loop recursion, its two loops written as two triangular systems.

        With the pairs from oldest to newest and R the upper triangle of ``s_i . y_j``, the first loop solves
        ``R a = S g`` and the second ``R' w = diag(R) a - Y r`` with ``r = scale (g - Y' a)``; the answer is ``r + S'
        w``.
        """
        history = self.settings.history
        order = (self.newest[:, None] + 1 + torch.arange(history, device=vectors.device)) % history
        place = (self.rows[:, None, None], order[:, :, None], order[:, None, :])
        curvature = self.step_change[place].diagonal(dim1=1, dim2=2)
        empty = torch.where(curvature > 0, 0, 1).to(vectors)
        upper = (self.step_change[place] + torch.diag_embed(empty)).triu()
        newest = (self.rows, self.newest)
        size = self.change_change[(*newest, self.newest)]
        scale = torch.where(size > 0, self.step_change[(*newest, self.newest)] / size, 1)[:, None]
        first = solve(upper, step_products.gather(1, order), upper=True)
        remaining = change_products.gather(1, order) - times(self.change_change[place], first)
        second = solve(upper.mT, curvature * first - scale * remaining, upper=False)
        back = order.argsort(dim=1)
        result = scale * (vectors - times(self.changes.mT, first.gather(1, back)))
        return result + times(self.steps.mT, second.gather(1, back))


def times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """One matrix-vector product a row: (N, a, b) times (N, b) is (N, a)."""
    return (vectors[:, None, :] @ matrices.mT).squeeze(1)  # from the left: several times faster than from the right


def solve(triangular: Tensor, vectors: Tensor, *, upper: bool) -> Tensor:
    """One triangular system a row."""
    return torch.linalg.solve_triangular(triangular, vectors[:, :, None], upper=upper).squeeze(2)


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Inner products of the rows of two (N, D) tensors: (N,)."""
    return (left * right).sum(dim=1)


def lbfgs(history: int = 100) -> Optimizer:
    """L-BFGS with ``history`` pairs and a line search that always decreases the loss.

    Source: Liu & Nocedal (1989); the line search is the weak-Wolfe bisection of Lewis & Overton (2013).
    """
    return LBFGS(history)
