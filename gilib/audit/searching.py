"""Searches within a budget of time, chosen by what the server can see: its objective, and whether two starts agree.

Every search runs from two starts a victim. A first, short round tries all plans; the best of them gets the rest of the
time. Nothing here looks at a true image.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gilib import metrics
from gilib.audit.adaptation import Adapted
from gilib.audit.plans import Plan, as_known, plans
from gilib.audit.settings import Settings
from gilib.audit.target import Target
from gilib.data import Batch
from gilib.federated import Client, Update
from gilib.iteration import Reconstruction, matching
from gilib.matrix_next.attacks import adapted

FIRST = 0.5
"""The share of the time in which all plans are tried."""
NEAR = 0.05
"""Agreements that differ by less are taken for the same."""
FEWEST, MOST = 20, 3000
"""Iterations of a search."""
TRIAL = 4
FLAT = 1e-12
"""Images without any shape agree in nothing: squared deviations per pixel below this are rounding."""
ENOUGH = 100
"""Iterations that every plan of the first round should have: where time is short, fewer plans are tried."""


@dataclass(frozen=True)
class Outcome:
    """What one search found: the better start of every victim, and what the server can say about it.

    ``distance`` is the cosine distance of the gradients, the median over victims; ``agreement`` the correlation of the
    two starts' images around their mean colour, the median over victims.
    """

    plan: Plan
    images: list[Tensor]
    iterations: int
    distance: float
    agreement: float
    stopped: bool

    @property
    def note(self) -> str:
        """For the report."""
        return f"; {self.iterations} iterations, distance {self.distance:.2g}, two starts agree by {self.agreement:.2f}"


class Searches:
    """The searches on a target's victims, adapted as ``how`` says."""

    def __init__(self, target: Target, labels: list[Tensor], how: Adapted, settings: Settings) -> None:
        self.target, self.adapted, self.settings = target, how, settings
        self.how = how.search
        self.updates = as_known(target.updates, labels, settings.threat)

    def plans(self) -> list[Plan]:
        """What there is to try."""
        return plans(self.target, self.settings.threat)

    def affordable(self, seconds: float) -> list[Plan]:
        """The plans of which each can have `ENOUGH` iterations within so many seconds, measured on the first."""
        every = self.plans()
        step = self._step(every[0])
        return every[: max(2, int(seconds / (ENOUGH * step)))]

    def run(self, plan: Plan, seconds: float) -> Outcome:
        """One search of about so many seconds. Raises ValueError, MemoryError, RuntimeError where it does not apply."""
        iterations = int(min(MOST, max(FEWEST, seconds / self._step(plan))))
        clock = _Clock(2 * seconds + 5)
        found = self._found(plan, iterations, clock)
        stopped = found[0].interrupted and not clock.late
        return self._outcome(plan, found, iterations=len(clock.times), stopped=stopped)

    def _step(self, plan: Plan) -> float:
        """Seconds an iteration."""
        clock = _Clock(float("inf"))
        self._found(plan, TRIAL, clock)
        return clock.step

    def _found(self, plan: Plan, iterations: int, clock: "_Clock") -> list[Reconstruction]:
        model, updates = plan.prepared(self.target.model, [*self.updates, *self.updates])
        ignored = [name for name in updates[0].gradients if self.how.ignored and name.endswith(self.how.ignored)]
        each = max(1, iterations // (2 if self.how.staged else 1))
        attack = adapted(plan.recipe(each), self.how, 1, ignored)
        return attack.reconstruct_many(model, updates, seed=self.settings.seed, callback=clock)

    def _outcome(self, plan: Plan, found: Sequence[Reconstruction], *, iterations: int, stopped: bool) -> Outcome:
        count, images, distances, agreements = len(self.updates), [], [], []
        for place, update in enumerate(self.updates):
            pair = found[place], found[place + count]
            better = min(pair, key=lambda one: float(one.losses.nan_to_num(torch.inf).min()))
            images.append(self.adapted.finished(better.images))
            distances.append(self.distance(update, better.images))
            agreements.append(agreement(*(one.images for one in pair)))
        far, alike = (float(torch.tensor(values).quantile(0.5)) for values in (distances, agreements))
        return Outcome(plan, images, iterations, far, alike, stopped)

    def distance(self, update: Update, images: Tensor) -> float:
        """The cosine distance between what was sent and what these images would have sent, where they are compared."""
        assert update.labels is not None
        repeat = Client(self.target.model, local=update.local, loss=update.loss, mode=update.mode, seed=0)
        like = next(iter(update.gradients.values()))
        guess = repeat.update(Batch(images.to(like.dtype).cpu(), update.labels.cpu())).gradients
        compare = matching.cosine() if self.how.matching is None else self.how.matching(matching.cosine())
        names = [name for name in update.gradients if not (self.how.ignored and name.endswith(self.how.ignored))]
        return float(compare({n: guess[n] for n in names}, {n: update.gradients[n].to(guess[n]) for n in names}))


def chosen(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome whose starts agree best; among those that agree about as well, the one with the least distance."""
    best = max(one.agreement for one in outcomes)
    return min((one for one in outcomes if one.agreement >= best - NEAR), key=lambda one: one.distance)


def agreement(first: Tensor, second: Tensor) -> float:
    """The correlation of two stacks of images (B, C, H, W), matched, each image around its own mean colour."""
    second = second[metrics.match(second.cpu(), first.cpu()).to(second.device)]
    centred = [(one - one.mean(dim=(2, 3), keepdim=True)).flatten().double() for one in (first, second)]
    norms = centred[0].norm() * centred[1].norm()
    return float(centred[0] @ centred[1] / norms) if norms > FLAT * first.numel() else 0.0


class _Clock:
    """Counts iterations, and stops the search as Ctrl-C would, once it takes longer than ``limit`` seconds."""

    def __init__(self, limit: float) -> None:
        self.start, self.limit, self.times, self.late = time.perf_counter(), limit, list[float](), False

    def __call__(self, iteration: int, losses: Tensor) -> None:
        self.times.append(time.perf_counter())
        if self.times[-1] - self.start > self.limit:
            self.late = True
            raise KeyboardInterrupt

    @property
    def step(self) -> float:
        """Seconds an iteration."""
        gaps = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        return max(sum(gaps) / max(len(gaps), 1), 1e-6) if gaps else 1e-3
