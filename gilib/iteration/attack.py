"""The one loop of every iteration-based attack.

An ``IterationAttack`` is the survey's list of ingredients. ``reconstruct_many`` turns them into one objective for one
victim, evaluates it for all victims and restarts (``stack``), and keeps the best candidate of each victim.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.federated import Update, seeded_generator
from gilib.iteration.checks import check_memory, check_responds, check_updates
from gilib.iteration.ingredients import Ingredients
from gilib.iteration.objective import Problem
from gilib.iteration.reconstruction import Reconstruction, Search
from gilib.iteration.representation import Pixels
from gilib.iteration.stack import evaluator

Callback = Callable[[int, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """How an attack is run, beside its ingredients: the options of ``Attack.reconstruct_many``."""

    seed: int
    snapshots: int
    callback: Callback | None
    compiled: bool
    after: Sequence[Reconstruction] | None


class Attack(ABC):
    """What runs on updates: an ``IterationAttack``, or several one after another."""

    def reconstruct(
        self,
        model: nn.Module,
        update: Update,
        *,
        seed: int = 0,
        snapshots: int = 0,
        callback: Callback | None = None,
        compiled: bool = False,
    ) -> Reconstruction:
        """Attack one victim. See ``reconstruct_many``, which this calls with a stack of one."""
        [found] = self.reconstruct_many(
            model, [update], seed=seed, snapshots=snapshots, callback=callback, compiled=compiled
        )
        return found

    def reconstruct_many(
        self,
        model: nn.Module,
        updates: Sequence[Update],
        *,
        seed: int = 0,
        snapshots: int = 0,
        callback: Callback | None = None,
        compiled: bool = False,
        after: Sequence[Reconstruction] | None = None,
    ) -> list[Reconstruction]:
        """Attack many victims of the same model at once, and return one ``Reconstruction`` each, in order.

        ``snapshots`` is how many times along the way to keep the best candidate. ``callback(iteration, losses)`` is
        called after each iteration with the best objective so far, (victims, restarts). ``compiled=True`` traces the
        step and compiles it, which takes 10 to 60 s and then runs about twice as fast, on large networks too: worth it
        from a few hundred iterations on. Ctrl-C stops the
        search and returns the best so far. ``after`` are reconstructions of the same victims from which the search goes
        on, instead of new starts. A start that diverges is replaced by a new one and counted in the result.

        Raises ValueError for updates that are not finite, that say nothing, that belong to another model or that differ
        in what was agreed, and for a model that cannot be differentiated twice; MemoryError when the stack does not
        fit; NoFiniteStartError if no start of a victim ever had a finite objective.
        """
        run = Run(seed=seed, snapshots=snapshots, callback=callback, compiled=compiled, after=after)
        return self._attack(model, updates, run)

    @abstractmethod
    def _attack(self, model: nn.Module, updates: Sequence[Update], run: Run) -> list[Reconstruction]:
        """What ``reconstruct_many`` does."""


@dataclass(frozen=True, kw_only=True)
class IterationAttack(Ingredients, Attack):
    """An iteration-based attack, as its ingredients.

    ``initialization`` starts the search, ``labels`` decides what is known about labels, ``matching`` compares
    gradients, ``priors`` are added to it, ``optimizer`` takes ``iterations`` steps (one evaluation of the objective
    each) from ``restarts`` starts a victim, and ``bounds`` is the range that images are clamped to after each step
    (None: no box). ``representation`` says what is searched: pixels, or something that draws them and has no box.
    ``group`` pulls the restarts of a victim towards each other. ``draws`` says what the attacker assumes of layers that
    drew at random at the client. The server keeps the candidate with the lowest
    objective; it never sees the true image.

    Source: the taxonomy of Zhang et al. (2022). Taught in: foundations/first_leak.
    """

    def _attack(self, model: nn.Module, updates: Sequence[Update], run: Run) -> list[Reconstruction]:
        check_updates(model, updates)
        check_memory(
            model,
            updates,
            self.representation,
            restarts=self.restarts,
            snapshots=run.snapshots,
            copies=getattr(self.optimizer, "copies", 0),
        )
        problem = Problem.of(
            model,
            updates,
            labels=self.labels,
            restarts=self.restarts,
            representation=self.representation,
            with_statistics=any(getattr(prior, "needs_shared_statistics", False) for prior in self.priors),
            draws=self.draws,
        )
        check_responds(problem)
        slopes = getattr(self.optimizer, "needs_gradients", True)
        evaluate = evaluator(problem, matching=self.matching, priors=self.priors, compiled=run.compiled, slopes=slopes)
        search = Search.begin(self._starts(problem, run), iterations=self.iterations, snapshots=run.snapshots)
        try:
            self._run(search, problem, evaluate, run)
        except KeyboardInterrupt:
            if search.done == 0:  # there is no best so far
                raise
            search.interrupted = True
        return [search.result(problem, victim, attack=self, seed=run.seed) for victim in range(len(updates))]

    def _run(
        self, search: Search, problem: Problem, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]], run: Run
    ) -> None:
        """Evaluate, remember the best, step, replace the starts that cannot go on."""
        stepper = self.optimizer.begin(search.candidates, self.iterations)
        for iteration in range(self.iterations):
            losses, gradients = evaluate(search.candidates)
            search.record(iteration, losses)
            if self.group is not None:
                pull, slope = self.group(search.candidates[:, : problem.size], problem.image_shape, self.restarts)
                losses, gradients = (
                    losses + pull,
                    gradients + torch.nn.functional.pad(slope, (0, gradients.shape[1] - problem.size)),
                )
            candidates, stuck = stepper.step(search.candidates, losses, gradients)
            if stuck.any():
                for row in stuck.nonzero().flatten().tolist():
                    search.replaced[row] += 1
                    candidates[row] = self._start(problem, run.seed, row, attempt=int(search.replaced[row]))
                stepper.restart(stuck)
            search.candidates = self._clamp(candidates, problem)
            if run.callback is not None:
                run.callback(iteration, search.best_losses.reshape(-1, self.restarts))

    def _starts(self, problem: Problem, run: Run) -> Tensor:
        starts = torch.stack([self._start(problem, run.seed, row, attempt=0) for row in range(problem.rows)])
        if run.after is not None:
            if len(run.after) * self.restarts != problem.rows:
                raise ValueError(
                    f"expected one earlier reconstruction for each of {problem.rows // self.restarts} victims; "
                    f"got {len(run.after)}."
                )
            resumed = torch.stack([self.representation.resume(found.candidate) for found in run.after]).to(starts)
            starts[:, : problem.size] = resumed.repeat_interleave(self.restarts, dim=0)
        return self._clamp(starts, problem)

    def _start(self, problem: Problem, seed: int, row: int, *, attempt: int) -> Tensor:
        """The start of one row (victim and restart). It does not depend on which other victims are in the stack."""
        generator = seeded_generator(seed, row // self.restarts, row % self.restarts, attempt)
        vector = self.representation.start(self.initialization(problem.image_shape, generator), generator)
        rest = torch.randn(
            problem.length - problem.size, generator=generator, dtype=torch.float64, device="cpu"
        )  # logits, draws
        return torch.cat([vector, rest]).to(problem.reference)

    def _clamp(self, candidates: Tensor, problem: Problem) -> Tensor:
        if self.bounds is None or not isinstance(self.representation, Pixels):
            return candidates
        clamped = candidates[:, : problem.size].clamp(*self.bounds)
        if candidates.shape[1] == problem.size:
            return clamped
        return torch.cat([clamped, candidates[:, problem.size :]], dim=1)
