"""Data initialization: where the search for the image starts.

An initialization is called as ``initialization(shape, generator)`` with shape (B, C, H, W) and returns float64
images. It may leave [0, 1]; the attack's bounds, if it has any, bring them back after the first step.

Source: the first ingredient of iteration-based attacks in the survey of Zhang et al. (2022).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

COLOURS: dict[str, float | tuple[float, ...]] = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "dark": 0.0,
    "light": 1.0,
}


class Initialization(Protocol):
    """Draws the first candidate images (B, C, H, W), in float64, from a generator."""

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor: ...


@dataclass(frozen=True)
class Normal:
    """Gaussian noise around ``mean`` with standard deviation ``std``."""

    mean: float
    std: float

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return self.mean + self.std * torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


@dataclass(frozen=True)
class Uniform:
    """Uniform noise between ``low`` and ``high``."""

    low: float
    high: float

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return self.low + (self.high - self.low) * torch.rand(
            shape, generator=generator, dtype=torch.float64, device="cpu"
        )


@dataclass(frozen=True)
class Constant:
    """One colour everywhere: ``value`` is one number, or one number a channel."""

    value: float | tuple[float, ...]

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        colour = torch.as_tensor(self.value, dtype=torch.float64, device="cpu").reshape(-1, 1, 1)
        if len(colour) not in (1, shape[1]):
            raise ValueError(f"constant() got {len(colour)} channel values for images with {shape[1]} channels.")
        return colour.expand(shape).clone()


@dataclass(frozen=True)
class Patches:
    """One random patch, ``size`` pixels wide, tiled over the whole image."""

    size: int

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        batch, channels, height, width = shape
        patch = torch.rand(
            batch, channels, self.size, self.size, generator=generator, dtype=torch.float64, device="cpu"
        )
        down, across = -(-height // self.size), -(-width // self.size)
        return patch.repeat(1, 1, down, across)[..., :height, :width]


@dataclass(frozen=True, eq=False)
class Proxy:
    """Images that the attacker has, (N, C, H, W) in [0, 1]: one drawn at random for each image of the batch."""

    images: Tensor

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        if tuple(self.images.shape[1:]) != tuple(shape[1:]):
            raise ValueError(
                f"proxy() holds images of shape {tuple(self.images.shape[1:])}, the victim's are {tuple(shape[1:])}. "
                "Load or resize them to the victim's channels and size."
            )
        chosen = torch.randint(len(self.images), (shape[0],), generator=generator, device="cpu")
        return self.images[chosen].detach().to("cpu", torch.float64)


def normal(mean: float = 0.0, std: float = 1.0) -> Initialization:
    """Start from Gaussian noise. Source: DLG, Zhu et al. (2019)."""
    return Normal(mean, std)


def uniform(low: float = 0.0, high: float = 1.0) -> Initialization:
    """Start from uniform noise between ``low`` and ``high``."""
    return Uniform(low, high)


def constant(value: float | tuple[float, ...] | str = 0.5) -> Initialization:
    """Start from one colour: a number in [0, 1], one number a channel, or a name out of `COLOURS`.

    Raises ValueError for an unknown name. Source: Wei et al. (2020). Taught in: iteration/initialization.
    """
    if isinstance(value, str) and value not in COLOURS:
        raise ValueError(
            f"constant() knows the colours {', '.join(COLOURS)}; got {value!r}. Or give numbers in [0, 1]."
        )
    return Constant(COLOURS[value] if isinstance(value, str) else value)


def patches(size: int = 4) -> Initialization:
    """Start from one random patch of ``size`` by ``size`` pixels, tiled over the image.

    Raises ValueError for a size below one. Source: Wei et al. (2020). Taught in: iteration/initialization.
    """
    if size < 1:
        raise ValueError(f"patches() needs a size of at least 1 pixel; got {size}.")
    return Patches(size)


def proxy(images: Tensor) -> Initialization:
    """Start from natural images the attacker has, (N, C, H, W) in [0, 1], one drawn at random for each image.

    The images may come from the victim's class or from elsewhere: what the attacker holds is part of the threat model
    (D, data-enhanced). Raises ValueError for an empty stack or one of another shape.

    Source: Wei et al. (2020). Taught in: iteration/initialization.
    """
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"proxy() expects images (N, C, H, W), at least one; got shape {tuple(images.shape)}.")
    return Proxy(images)
