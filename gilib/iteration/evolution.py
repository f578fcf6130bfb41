"""Gradient-free search: CMA-ES, which looks at the objective's values and never at its slope.

The restarts of a victim are not independent here. ``population`` of them together are one generation: they are ranked,
and the next generation is drawn around the better ones. The strategy itself is that of the package ``cma``.
"""

from dataclasses import dataclass

import cma  # type: ignore[import-untyped]
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gilib.iteration.optimizers import Optimizer, Stepper


@dataclass(frozen=True)
class CMAES:
    """Evolution strategy with covariance matrix adaptation, one for every ``population`` rows of the stack."""

    population: int
    sigma: float
    seed: int
    needs_gradients = False  # the objective's values are enough, and cost a fraction

    def begin(self, candidates: Tensor, iterations: int) -> Stepper:
        if len(candidates) % self.population:
            raise ValueError(
                f"cma_es() groups {self.population} rows into a generation, got {len(candidates)}. "
                f"Set the attack's restarts to {self.population}, or to a multiple of it."
            )
        return CMAESStepper(self)


class CMAESStepper:
    """One strategy for every generation of rows, begun at the best of its first rows."""

    def __init__(self, settings: CMAES) -> None:
        self.settings = settings
        self.strategies: list[cma.CMAEvolutionStrategy] = []

    def step(self, candidates: Tensor, losses: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        rows = candidates.double().cpu().numpy().reshape(-1, self.settings.population, candidates.shape[1])
        values = losses.double().nan_to_num(nan=torch.inf, neginf=torch.inf).cpu().numpy()
        values = values.reshape(-1, self.settings.population)
        if self.strategies:
            for strategy, points, value in zip(self.strategies, rows, values, strict=True):
                strategy.tell(list(points), list(value))
        else:
            self.strategies = [self._begin(points[value.argmin()]) for points, value in zip(rows, values, strict=True)]
        asked = np.concatenate([strategy.ask() for strategy in self.strategies])
        return torch.from_numpy(asked).to(candidates), torch.zeros_like(losses, dtype=torch.bool)

    def restart(self, rows: Tensor) -> None:
        pass

    def _begin(self, start: NDArray[np.float64]) -> cma.CMAEvolutionStrategy:
        """A silent strategy whose draws leave the global random state of numpy alone."""
        random = np.random.default_rng(self.settings.seed)
        options = {
            "popsize": self.settings.population,
            "randn": lambda *shape: random.standard_normal(shape),
            "seed": np.nan,
            "verbose": -9,
        }
        return cma.CMAEvolutionStrategy(start, self.settings.sigma, options)


def cma_es(population: int = 16, sigma: float = 0.5, *, seed: int = 0) -> Optimizer:
    """CMA-ES: generations of ``population`` rows, drawn from a normal distribution that follows the better ones.

    The attack's restarts must be a multiple of ``population``; every ``population`` restarts of a victim are one
    search. Their starts are the first generation; ``sigma`` is the standard deviation of the second one, around the
    best start. The draws come from ``seed`` alone and are the same for every victim. Gradients are ignored, and only
    the order of the losses counts.

    Raises ValueError for fewer than four rows a generation or a ``sigma`` that is not positive.

    Known as: CMA-ES (ingredient). Needs few numbers to search, such as the codes of a generator.
    Source: Hansen (2016), in the package ``cma``. Taught in: iteration/generative.
    """
    if population < 4 or not sigma > 0:
        raise ValueError(f"expected population of at least 4 and a positive sigma; got {population} and {sigma}.")
    return CMAES(population, sigma, seed)
