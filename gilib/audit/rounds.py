"""A first round of short searches by all plans, and a second one by the plan that did best as far as a server sees."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import psutil

from gilib.audit.adaptation import Adapted
from gilib.audit.budget import FEWEST, Size, sized
from gilib.audit.finding import Finding, attempt
from gilib.audit.judge import Judge
from gilib.audit.plans import Plan, plans
from gilib.audit.reading import with_labels
from gilib.audit.searching import Outcome, Searches, chosen
from gilib.audit.settings import Settings
from gilib.audit.surrogate import Generator

FIRST = 0.5
"""The share of the time in which all plans are tried."""
QUARTER = 4
"""Where iterations are counted, a search of the first round has one in so many of them."""


@dataclass(frozen=True)
class Until:
    """A ``moment`` of ``time.perf_counter``; None where iterations are counted instead."""

    moment: float | None

    @property
    def left(self) -> float:
        """Seconds until then, 0 afterwards."""
        return float("inf") if self.moment is None else max(self.moment - time.perf_counter(), 0.0)


class Rounds:
    """The searches on the victims of ``judge.target``, with the labels that the server reads or is given.

    ``selected`` is the plan that was chosen for the second round, and ``stopped`` whether Ctrl-C ended a search.
    """

    def __init__(self, judge: Judge, how: Adapted, settings: Settings, generator: Generator | None) -> None:
        self.judge, self.how, self.settings = judge, how, settings
        labels, self.assumes = with_labels(judge.target)
        self.searches = Searches(judge.target, labels, how, settings)
        self.plans = plans(judge.target, settings.threat, generator)
        self.size = Size(judge.target.victims, len(self.plans))
        self.outcomes: list[Outcome] = []
        self.selected, self.stopped, self._cost = "", False, ""

    def findings(self, until: Until, say: Callable[[str], None]) -> Iterator[Finding]:
        """One finding a search, as they come; ``say`` is told what is next."""
        half = FIRST * until.left
        if self.settings.iterations is None:
            measured = attempt("searches", partial(self._measured, half))
            yield measured
            if self.size.plans == 0:
                return
        for place, plan in enumerate(self.plans[: self.size.plans]):
            say(f"search: {plan.name}")
            seconds = (until.left - half) / (self.size.plans - place)
            yield attempt(f"search: {plan.name}", partial(self._short, plan, seconds))
        if not self.outcomes:
            return
        best = chosen(self.outcomes).plan
        self.selected = best.name
        say(f"the chosen search: {best.name}")
        yield attempt(f"chosen search: {best.name}", partial(self._long, best, until.left))

    def _measured(self, seconds: float) -> Finding:
        """How many victims and plans fit into the first round."""
        self.size = Size(0, 0)
        self.size = sized(
            self._iteration,
            victims=self.judge.target.victims,
            plans=len(self.plans),
            seconds=seconds,
        )
        skipped = [plan.name for plan in self.plans[self.size.plans :]]
        if not skipped:
            return Finding("searches", "note", f"time for all {len(self.plans)}{self._cost}")
        return Finding("searches", "no answer", f"no time for {'; '.join(skipped)}{self._cost}")

    def _iteration(self, victims: int) -> float:
        """Seconds of an iteration; takes down what one of a single victim costs."""
        before, taken = psutil.Process().memory_info().rss, self.searches.step(self.plans[0], victims)
        if victims == 1:
            grown = max(psutil.Process().memory_info().rss - before, 0) / 2**20
            self._cost = f"; an iteration takes {1000 * taken:.0f} ms and {grown:.0f} MB for one client"
        return taken

    def _short(self, plan: Plan, seconds: float) -> Finding:
        counted = self.settings.iterations
        return self._search(f"search: {plan.name}", plan, seconds, counted and max(1, counted // QUARTER))

    def _long(self, plan: Plan, seconds: float) -> Finding:
        return self._search(f"chosen search: {plan.name}", plan, seconds, self.settings.iterations)

    def _search(self, name: str, plan: Plan, seconds: float, iterations: int | None) -> Finding:
        if iterations is not None:
            outcome = self.searches.run(plan, iterations, self.size.victims)
        else:
            outcome = self.searches.within(plan, self.size.victims, seconds)
        self.stopped = outcome.stopped
        if outcome.iterations < FEWEST and iterations is None and not outcome.stopped:
            raise ValueError(f"only {outcome.iterations} iterations in its time, which are too few to count.")
        self.outcomes.append(outcome)
        numbers = {
            "iterations": outcome.iterations,
            "distance": outcome.distance,
            "agreement": outcome.agreement,
            "starts": list(outcome.starts),
        }
        return self.judge.images(
            name,
            outcome.images,
            note=outcome.note,
            numbers=numbers,
            assumes=self.assumes,
            unadapted=self.how.missing,
        )
