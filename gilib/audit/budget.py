"""How long searches may take: measured in seconds, or counted in iterations."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

ENOUGH = 100
"""Iterations that every search of the first round should have: where time is short, there are fewer of them."""
FEWEST, MOST = 20, 3000
"""Iterations of a search: with fewer it is not worth while, and more are not asked for."""
TRIAL = 3
"""Iterations by which the time of one is measured."""
FILLED = 0.85
"""The share of its time that a search is planned to take. What is left is for checks around it, and for surprises."""


@dataclass(frozen=True)
class Size:
    """How many victims are searched, and by how many of the plans."""

    victims: int
    plans: int


def sized(step: Callable[[int], float], *, victims: int, plans: int, seconds: float) -> Size:
    """As much as fits into so many seconds with `ENOUGH` iterations each, if an iteration of n victims takes step(n).

    Two plans are tried rather than several victims, and with fewer iterations rather than alone; none where not even
    `FEWEST` iterations of one victim fit.
    """
    alone = step(1)
    if FEWEST * alone > seconds:
        return Size(0, 0)
    cheap = TRIAL * victims * alone < seconds / 10
    each = step(victims) / victims if cheap else alone  # a stack of several may be cheaper than one after another
    several = max(1, min(victims, int(seconds / (2 * ENOUGH * each))))
    iteration = alone if several == 1 else several * each
    affordable = max(int(seconds / (ENOUGH * iteration)), 2 if 2 * FEWEST * iteration <= seconds else 1)
    return Size(several, min(plans, affordable))


def iterations_in(seconds: float, step: float) -> int:
    """Iterations of ``step`` seconds each that a search of so many seconds is planned with."""
    return int(min(MOST, max(FEWEST, FILLED * seconds / step)))


class Clock:
    """Counts iterations, and stops the search as Ctrl-C would, once it takes longer than ``limit`` seconds."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.start, self.limit, self.times, self.late = time.perf_counter(), limit, list[float](), False

    def __call__(self, iteration: int, losses: Tensor) -> None:
        self.times.append(time.perf_counter())
        if self.times[-1] - self.start > self.limit:
            self.late = True
            raise KeyboardInterrupt

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return max(self.limit - (time.perf_counter() - self.start), 0.0)

    @property
    def step(self) -> float:
        """Seconds an iteration, without the first, which takes longer."""
        return _mean([after - before for before, after in zip(self.times, self.times[1:], strict=False)])


def _mean(gaps: Sequence[float]) -> float:
    return max(sum(gaps) / len(gaps), 1e-6) if gaps else 1e-3
