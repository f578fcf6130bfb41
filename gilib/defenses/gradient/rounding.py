"""Gradients in few bits: quantized to a grid, or reduced to signs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gilib.defenses.gradient.entries import finite, wide
from gilib.federated import Defense, Update


@dataclass(frozen=True)
class Quantization(Defense):
    """The defense that ``quantization`` returns."""

    bits: int
    stochastic: bool

    def __post_init__(self) -> None:
        if not (isinstance(self.bits, int) and 1 <= self.bits <= 16):
            raise ValueError(f"bits must be a whole number from 1 to 16; got {self.bits}.")

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "quantization"

    @property
    def public(self) -> Mapping[str, object]:
        """How it rounds. The step of a tensor follows from its largest entry, which is sent as it is."""
        return {"bits": self.bits, "stochastic": self.stochastic}

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """Every entry on its tensor's grid."""
        return replace(update, gradients={n: self._rounded(v, generator) for n, v in finite(update).items()})

    def _rounded(self, value: Tensor, generator: torch.Generator) -> Tensor:
        """One tensor, rounded to the nearest level or, with luck proportional to the distance, to a neighbour."""
        if not value.any():
            return value
        exact, top = wide(value), 2**self.bits - 1
        peak = exact.abs().max()
        codes = (exact / peak + 1) / 2 * top
        if self.stochastic:
            draw = torch.rand(value.shape, generator=generator, dtype=torch.float64, device="cpu").to(codes)
            codes = (codes + draw).floor().clamp(0, top)
        return ((2 * codes.round() / top - 1) * peak).to(value.dtype)


def quantization(bits: int, *, stochastic: bool = False) -> Defense:
    """Round every entry to one of ``2**bits`` equidistant levels between plus and minus its tensor's largest magnitude.

    The step is ``2 max|g| / (2**bits - 1)``. The error is at most half a step; ``stochastic=True`` rounds up or down at
    random, such that the mean is right, with an error below one step. Raises ValueError for bits outside 1 to 16, and
    for gradients that are not finite.

    Known as: quantization (defense). Needs nothing of anybody else.
    Source: the stochastic variant is that of Alistarh et al. (2017), with another scale. Taught in: defenses/gradient.
    """
    return Quantization(bits, stochastic)


@dataclass(frozen=True)
class SignCompression(Defense):
    """The defense that ``sign_compression`` returns."""

    scaled: bool

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "sign_compression"

    @property
    def public(self) -> Mapping[str, object]:
        """Whether the signs carry a scale."""
        return {"scaled": self.scaled}

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """The signs, times each tensor's mean magnitude."""
        return replace(update, gradients={n: self._signs(v) for n, v in finite(update).items()})

    def _signs(self, value: Tensor) -> Tensor:
        return (wide(value).abs().mean() * value.sign()).to(value.dtype) if self.scaled else value.sign()


def sign_compression(*, scaled: bool = True) -> Defense:
    """Send the sign of every entry, times the mean magnitude of its tensor unless ``scaled=False``.

    An entry that is exactly zero stays zero. Raises ValueError for gradients that are not finite.

    Known as: signSGD, signs (defense). Needs nothing of anybody else.
    Source: signSGD, Bernstein et al. (2018), and with the scale Karimireddy et al. (2019). Taught in:
    defenses/gradient.
    """
    return SignCompression(scaled)
