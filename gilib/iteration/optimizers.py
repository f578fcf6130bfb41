"""Element-wise optimizers for a whole stack of candidates: SGD, Adam, and Adam on the sign of the gradient.

A stack of N candidates with D numbers each is one tensor (N, D). ``optimizer.begin(candidates, iterations)`` returns a
stepper; ``stepper.step(candidates, losses, gradients)`` returns the next candidates and says which rows cannot go on.
Rows never look at each other, so attacking many victims at once gives what attacking them one by one gives.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Schedule = Callable[[float], float]


class Stepper(Protocol):
    """The running state of an optimizer over a stack of candidates."""

    def step(self, candidates: Tensor, losses: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Next candidates (N, D), and which rows are stuck (N,), given losses (N,) and gradients (N, D)."""
        ...

    def restart(self, rows: Tensor) -> None:
        """Forget the past of the rows where ``rows`` (N,) is true: they hold fresh candidates now."""
        ...


class Optimizer(Protocol):
    """The settings of an optimizer."""

    def begin(self, candidates: Tensor, iterations: int) -> Stepper: ...


@dataclass(frozen=True)
class SGD:
    """Plain gradient descent."""

    learning_rate: float

    def begin(self, candidates: Tensor, iterations: int) -> Stepper:
        return SGDStepper(self)


class SGDStepper:
    """Gradient descent has no memory."""

    def __init__(self, settings: SGD) -> None:
        self.settings = settings

    def step(self, candidates: Tensor, losses: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        return candidates - self.settings.learning_rate * gradients, not_finite(losses, gradients)

    def restart(self, rows: Tensor) -> None:
        pass


@dataclass(frozen=True)
class Adam:
    """Adam, optionally on the sign of the gradient, with a step size that falls at given fractions of the run.

    ``weight_decay`` pulls every number towards zero by that share of the step size, apart from the gradient (AdamW).
    """

    learning_rate: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    signed: bool = False
    decay: float = 0.1
    milestones: tuple[float, ...] = ()
    weight_decay: float = 0.0

    def begin(self, candidates: Tensor, iterations: int) -> Stepper:
        return AdamStepper(self, candidates, iterations)


class AdamStepper:
    """First and second moments of each row, and how many steps each row has taken since it (re)started."""

    def __init__(self, settings: Adam, candidates: Tensor, iterations: int) -> None:
        self.settings = settings
        self.iterations = iterations
        self.iteration = 0
        self.first = torch.zeros_like(candidates)
        self.second = torch.zeros_like(candidates)
        self.steps = candidates.new_zeros(len(candidates), 1)

    def step(self, candidates: Tensor, losses: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        first_beta, second_beta = self.settings.betas
        stuck = not_finite(losses, gradients)
        gradients = gradients.sign() if self.settings.signed else gradients
        self.steps += 1
        self.first = first_beta * self.first + (1 - first_beta) * gradients
        self.second = second_beta * self.second + (1 - second_beta) * gradients.square()
        mean = self.first / (1 - first_beta**self.steps)
        scale = (self.second / (1 - second_beta**self.steps)).sqrt() + 1e-8
        passed = sum(self.iteration >= fraction * self.iterations for fraction in self.settings.milestones)
        self.iteration += 1
        step = self.settings.learning_rate * self.settings.decay**passed
        return candidates - step * (mean / scale + self.settings.weight_decay * candidates), stuck

    def restart(self, rows: Tensor) -> None:
        for state in (self.first, self.second, self.steps):
            state[rows] = 0


def not_finite(losses: Tensor, gradients: Tensor) -> Tensor:
    """Rows (N,) whose loss or gradient is infinite or NaN: their search has diverged."""
    return ~(losses.isfinite() & gradients.isfinite().all(dim=1))


def sgd(learning_rate: float = 0.1) -> Optimizer:
    """Gradient descent with a fixed step."""
    return SGD(learning_rate)


def adam(learning_rate: float = 0.1) -> Optimizer:
    """Adam with a fixed step. Source: Kingma & Ba (2015), algorithm 1."""
    return Adam(learning_rate)


def adamw(learning_rate: float = 0.1, weight_decay: float = 0.01) -> Optimizer:
    """Adam with decoupled weight decay: every step also shrinks the candidate by ``learning_rate * weight_decay``.

    On an image this is a pull towards black. Source: Loshchilov & Hutter (2019). Taught in: iteration/matching.
    """
    return Adam(learning_rate, weight_decay=weight_decay)


def signed_adam(learning_rate: float = 0.1) -> Optimizer:
    """Adam on the sign of the gradient; the step falls tenfold after 3/8, 5/8 and 7/8 of the iterations.

    Source: Geiping et al. (2020), and the schedule of the authors' public code.
    """
    return Adam(learning_rate, signed=True, milestones=(3 / 8, 5 / 8, 7 / 8))
