"""Searches, chosen by what the server can see: its objective, and whether two starts agree.

Every search runs from two starts a victim, of which the one with the smaller objective counts. A first, short round
tries the plans; the best of them goes on. Nothing here looks at a true image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gilib import metrics
from gilib.audit.adaptation import Adapted
from gilib.audit.budget import TRIAL, Clock, iterations_in
from gilib.audit.plans import Plan, as_known
from gilib.audit.settings import Settings
from gilib.audit.target import Target
from gilib.data import Batch
from gilib.federated import Client, Update
from gilib.iteration import Reconstruction, matching
from gilib.matrix.attacks import adapted

NEAR = 0.05
"""Agreements that differ by less are taken for the same."""
FLAT = 1e-12
"""Squared deviations per pixel below this are rounding; images without any shape agree in nothing."""


@dataclass(frozen=True)
class Outcome:
    """What one search found: the better start of every victim, and what the server can say about it.

    ``distance`` is the cosine distance of the gradients, the median over victims; ``agreement`` the correlation of the
    two starts' images around their mean colour, the median over victims. ``starts`` says which of the two was better.
    """

    plan: Plan
    images: list[Tensor]
    iterations: int
    distance: float
    agreement: float
    stopped: bool
    starts: tuple[int, ...] = ()

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

    def step(self, plan: Plan, victims: int) -> float:
        """Seconds that an iteration takes on so many victims, by a short trial."""
        clock = Clock()
        self.found(plan, TRIAL, victims, clock)
        return clock.step

    def within(self, plan: Plan, victims: int, seconds: float) -> Outcome:
        """One search that takes at most about so many seconds, its trial included. Raises as ``run`` does."""
        clock = Clock(seconds)
        step = self.step(plan, victims)
        return self.run(plan, iterations_in(clock.left, step), victims, clock)

    def run(self, plan: Plan, iterations: int, victims: int, clock: Clock | None = None) -> Outcome:
        """One search of so many iterations on the first victims.

        Raises ValueError, MemoryError or NoFiniteStartError where it does not apply, does not fit or finds nothing.
        """
        clock = clock or Clock()
        found = self.found(plan, iterations, victims, clock)
        images, distances, agreements, starts = [], [], [], []
        for place, update in enumerate(self.updates[:victims]):
            pair = found[place], found[place + victims]
            better = min((0, 1), key=lambda start: float(pair[start].losses.nan_to_num(torch.inf).min()))
            images.append(self.adapted.finished(pair[better].images))
            distances.append(self.distance(update, pair[better].images))
            agreements.append(agreement(*(one.images for one in pair)))
            starts.append(better)
        far, alike = (float(torch.tensor(values).quantile(0.5)) for values in (distances, agreements))
        stopped = any(one.interrupted for one in found) and not clock.late
        return Outcome(plan, images, len(clock.times), far, alike, stopped, tuple(starts))

    def found(self, plan: Plan, iterations: int, victims: int, clock: Clock) -> list[Reconstruction]:
        """What both starts of the first victims end with: all first starts, then all second ones."""
        some = self.updates[:victims]
        model, updates = plan.prepared(self.target.model, [*some, *some])
        ignored = [name for name in updates[0].gradients if self.how.ignored and name.endswith(self.how.ignored)]
        each = max(1, iterations // 2) if self.how.staged and not plan.drawn else iterations
        attack = adapted(plan.recipe(each), self.how, 1, ignored)
        return attack.reconstruct_many(model, updates, seed=self.settings.seed, callback=clock)

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
