"""Data initialization: where the search for the image starts.

An initialization is called as ``initialization(shape, generator)`` with shape (B, C, H, W) and returns float64
images. It may leave [0, 1]; the attack's bounds, if it has any, bring them back after the first step.

Source: the first ingredient of iteration-based attacks in the survey of Zhang et al. (2022).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Initialization(Protocol):
    """Draws the first candidate images (B, C, H, W), in float64, from a generator."""

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor: ...


@dataclass(frozen=True)
class Normal:
    """Gaussian noise around ``mean`` with standard deviation ``std``."""

    mean: float
    std: float

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return self.mean + self.std * torch.randn(shape, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Uniform:
    """Uniform noise between ``low`` and ``high``."""

    low: float
    high: float

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return self.low + (self.high - self.low) * torch.rand(shape, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Constant:
    """One colour everywhere: ``value`` is one number, or one number a channel."""

    value: float | tuple[float, ...]

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        colour = torch.as_tensor(self.value, dtype=torch.float64).reshape(-1, 1, 1)
        if len(colour) not in (1, shape[1]):
            raise ValueError(f"constant() got {len(colour)} channel values for images with {shape[1]} channels.")
        return colour.expand(shape).clone()


def normal(mean: float = 0.0, std: float = 1.0) -> Initialization:
    """Start from Gaussian noise. Source: DLG, Zhu et al. (2019)."""
    return Normal(mean, std)


def uniform(low: float = 0.0, high: float = 1.0) -> Initialization:
    """Start from uniform noise between ``low`` and ``high``."""
    return Uniform(low, high)


def constant(value: float | tuple[float, ...] = 0.5) -> Initialization:
    """Start from one colour: a number in [0, 1], or one number a channel. Source: Wei et al. (2020)."""
    return Constant(value)
