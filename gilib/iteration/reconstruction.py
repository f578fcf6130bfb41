"""What an attack returns, and the record that the search keeps on the way there."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gilib.iteration.ingredients import Ingredients
from gilib.iteration.objective import Problem


class NoFiniteStartError(RuntimeError):
    """No start of a search ever had a finite objective, so that there is nothing to return."""


@dataclass(frozen=True)
class Reconstruction:
    """One victim's recovered batch.

    ``images`` (B, C, H, W) is the candidate with the lowest objective, clamped to [0, 1] as every image is (rows
    of a table are not); ``labels`` (B,) int64, or the known targets (B, K) where these are no probabilities; ``losses``
    (iterations,) is the objective
    of the restart that was chosen, at every evaluation, NaN or infinite where a start diverged.
    ``snapshots`` (S, B, C, H, W) are that restart's best images so far after ``snapshot_iterations`` (S,) evaluations.
    ``candidate`` (D,) is the vector that represents the images, from which another attack can go on. ``restart`` is
    the chosen restart, ``diverged`` how many starts of this victim had to be replaced because their search could not go
    on (also one that ran out of precision close to its goal: its best candidate is kept), and ``interrupted`` whether
    Ctrl-C ended the search. ``attack`` and ``seed`` are what it takes to run it again.
    """

    images: Tensor
    labels: Tensor
    losses: Tensor = field(repr=False)
    snapshots: Tensor = field(repr=False)
    snapshot_iterations: Tensor = field(repr=False)
    candidate: Tensor = field(repr=False)
    restart: int
    diverged: int
    interrupted: bool
    attack: Ingredients
    seed: int


@dataclass
class Search:
    """The running search: current candidates (N, D), and the best of each row so far."""

    candidates: Tensor
    best: Tensor
    best_losses: Tensor
    losses: Tensor
    snapshots: Tensor
    snapshot_iterations: Tensor
    replaced: Tensor
    done: int = 0
    interrupted: bool = False

    @classmethod
    def begin(cls, candidates: Tensor, *, iterations: int, snapshots: int) -> "Search":
        """Nothing is evaluated yet."""
        rows = len(candidates)
        return cls(
            candidates=candidates,
            best=candidates.clone(),
            best_losses=candidates.new_full((rows,), torch.inf),
            losses=candidates.new_full((iterations, rows), torch.nan),
            snapshots=candidates.new_zeros(snapshots, *candidates.shape),
            snapshot_iterations=spaced(iterations, snapshots),
            replaced=torch.zeros(rows, dtype=torch.int64, device="cpu"),
        )

    def record(self, iteration: int, losses: Tensor) -> None:
        """Remember an evaluation of the current candidates: objectives (N,)."""
        better = losses < self.best_losses  # false for NaN
        self.best = torch.where(better[:, None], self.candidates, self.best)
        self.best_losses = torch.where(better, losses, self.best_losses)
        self.losses[iteration] = losses
        self.done = iteration + 1
        if (reached := self.snapshot_iterations == self.done).any():
            self.snapshots[reached] = self.best

    def result(self, problem: Problem, victim: int, *, attack: Ingredients, seed: int) -> Reconstruction:
        """The best restart of one victim. Raises NoFiniteStartError if none ever had a finite objective."""
        rows = slice(victim * problem.restarts, (victim + 1) * problem.restarts)
        restart = int(self.best_losses[rows].argmin())
        row = victim * problem.restarts + restart
        if not self.best_losses[row].isfinite():
            raise NoFiniteStartError(
                f"no start of victim {victim} had a finite objective in {self.done} iterations "
                f"({int(self.replaced[rows].sum())} starts were replaced). Check the model, or lower the learning rate."
            )
        targets = self.best.new_zeros(0) if problem.targets is None else problem.targets[row]
        reached = self.snapshot_iterations <= self.done
        taken = [problem.images(vector) for vector in self.snapshots[reached, row]]
        return Reconstruction(
            images=_shown(problem.images(self.best[row])),
            labels=problem.labels(self.best[row], targets),
            losses=self.losses[: self.done, row].clone(),
            snapshots=_shown(torch.stack(taken)) if taken else self.best.new_zeros(0, *problem.image_shape),
            snapshot_iterations=self.snapshot_iterations[reached],
            candidate=self.best[row, : problem.size].clone(),
            restart=restart,
            diverged=int(self.replaced[rows].sum()),
            interrupted=self.interrupted,
            attack=attack,
            seed=seed,
        )


def _shown(images: Tensor) -> Tensor:
    """Images (..., B, C, H, W) clamped to their range; rows of a table have none."""
    return images.clamp(0, 1) if images.ndim > 3 else images


def spaced(iterations: int, count: int) -> Tensor:
    """``count`` iterations from 1 to ``iterations``, closer together at the start, where images change most."""
    if count < 2:
        return torch.full((count,), iterations, dtype=torch.int64, device="cpu")
    fractions = torch.linspace(0, 1, count, dtype=torch.float64, device="cpu")
    return (1 + (iterations - 1) * fractions.square()).round().to(torch.int64)
