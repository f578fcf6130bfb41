"""What the search changes: pixels, a generator's latent code, or the weights of a network that draws the images.

A representation turns a flat vector (D,) into images (B, C, H, W). The one loop searches over such vectors, a stack of
them at once. Everything but `Pixels` is a prior too: only images that the network can draw are ever considered.
"""

import copy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


class Representation(Protocol):
    """Flat vectors that stand for images (B, C, H, W)."""

    def start(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Where the search begins: a float64 vector (D,), for start images (B, C, H, W) drawn by the initialization."""
        ...

    def resume(self, vector: Tensor) -> Tensor:
        """Where it begins after another attack ended at ``vector`` (D',)."""
        ...

    def images(self, vector: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The images of shape (B, C, H, W) that a vector stands for. Differentiable, safe under vmap."""
        ...


def vector_size(representation: Representation, shape: tuple[int, ...]) -> int:
    """How many numbers stand for images of shape (B, C, H, W)."""
    return len(
        representation.start(torch.zeros(shape, dtype=torch.float64, device="cpu"), torch.Generator(device="cpu"))
    )


@dataclass(frozen=True)
class Pixels:
    """The images themselves."""

    def start(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images.flatten()

    def resume(self, vector: Tensor) -> Tensor:
        return vector

    def images(self, vector: Tensor, shape: tuple[int, ...]) -> Tensor:
        return vector.reshape(shape)


@dataclass(frozen=True, eq=False)
class Latent:
    """A latent code for each image, (B, size), decoded by a fixed generator."""

    generator: nn.Module
    size: int

    def start(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(len(images) * self.size, generator=generator, dtype=torch.float64, device="cpu")

    def resume(self, vector: Tensor) -> Tensor:
        return vector

    def images(self, vector: Tensor, shape: tuple[int, ...]) -> Tensor:
        return decode(self.generator, dict(self.generator.named_parameters()), vector.reshape(shape[0], -1), shape)


@dataclass(frozen=True, eq=False)
class Weights:
    """A network's weights, for latent codes that stay fixed: the vector is the codes (B, size), then the weights."""

    generator: nn.Module
    size: int

    def start(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self.resume(torch.randn(len(images) * self.size, generator=generator, dtype=torch.float64, device="cpu"))

    def resume(self, vector: Tensor) -> Tensor:
        return torch.cat([vector, nn.utils.parameters_to_vector(self.generator.parameters()).detach().to(vector)])

    def images(self, vector: Tensor, shape: tuple[int, ...]) -> Tensor:
        codes, weights = vector.tensor_split([shape[0] * self.size])
        return decode(self.generator, unflatten(self.generator, weights), codes.detach().reshape(shape[0], -1), shape)


def pixels() -> Representation:
    """Search the images directly, as DLG does."""
    return Pixels()


def latent(generator: nn.Module, size: int) -> Representation:
    """Search the codes (B, size) of a ``generator``, a module from codes to images in [0, 1] that stays as it is.

    The generator is knowledge: of data like the victim's (threat model D).

    Source: GIAS, Jeon et al. (2021), first stage; GGL, Li et al. (2022). Taught in: iteration/generative.
    """
    return Latent(frozen(generator), size)


def weights(generator: nn.Module, size: int) -> Representation:
    """Search the weights of ``generator`` for fixed codes: those of the attack before, or random ones.

    With a trained generator this is the second stage of GIAS; with an untrained one a deep image prior.

    Source: GIAS, Jeon et al. (2021), second stage; CI-Net, Zhang et al. (2023). Taught in: iteration/generative.
    """
    return Weights(frozen(generator), size)


def decode(generator: nn.Module, parameters: dict[str, Tensor], codes: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Images (B, C, H, W) for codes (B, size). Raises ValueError if the generator draws another shape."""
    values = {name: value.to(codes) for name, value in parameters.items()}
    values |= {name: value.to(codes) for name, value in generator.named_buffers() if value.is_floating_point()}
    images: Tensor = torch.func.functional_call(generator, values, (codes,))
    if tuple(images.shape) != tuple(shape):
        raise ValueError(f"the generator draws images of shape {tuple(images.shape)}, the victim's are {tuple(shape)}.")
    return images


def unflatten(generator: nn.Module, vector: Tensor) -> dict[str, Tensor]:
    """The parameters of a network out of one flat vector, in the order of ``named_parameters``."""
    parts = vector.split([value.numel() for value in generator.parameters()])
    return {
        name: part.reshape(value.shape) for part, (name, value) in zip(parts, generator.named_parameters(), strict=True)
    }


def frozen(generator: nn.Module) -> nn.Module:
    """A copy in eval mode that no training changes."""
    return copy.deepcopy(generator).eval().requires_grad_(False)
