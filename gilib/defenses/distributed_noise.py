"""Differential privacy under secure aggregation: whole numbers with a little noise from each client, private as a sum.

A client clips its update, rotates it, rounds it to whole numbers and adds its share of Skellam noise. The sum of all
shares is the noise that the guarantee needs, and nobody has to be trusted to add it alone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gilib.federated import seeded_generator

_ORDERS = [1 + k / 10 for k in range(1, 100)] + list(range(11, 512))


@dataclass(frozen=True)
class DistributedNoise:
    """What ``clients`` clients agree on to make the sum of their vectors of ``numbers`` entries private.

    ``clip`` bounds the norm of one client's vector. ``noise`` is the standard deviation of the sum's noise, as a
    multiple of ``clip``. A unit is ``scale`` whole numbers: a larger scale rounds less and takes more bits. ``seed`` is
    that of the rotation, which everybody knows. The generator of the noise must be one that nobody else can repeat; a
    seeded one, as in this book, protects nobody. Raises ValueError unless all are positive and finite.

    Known as: distributed differential privacy, Skellam noise (defense). Needs secure aggregation, and other clients who
    add their share.
    Source: Agarwal, Kairouz and Liu (2021); rotation and rounding are those of Kairouz, Liu and Steinke (2021).
    Taught in: defenses/distributed_privacy.
    """

    numbers: int
    clients: int
    clip: float
    noise: float
    scale: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not all(0 < value < math.inf for value in (self.numbers, self.clients, self.clip, self.noise, self.scale)):
            raise ValueError(f"expected positive numbers, clients, clip, noise and scale, all finite; got {self}.")

    @property
    def padded(self) -> int:
        """The length of what is sent, which is the next power of two."""
        return 1 << (self.numbers - 1).bit_length()

    @property
    def l2(self) -> float:
        """The largest norm of a client's whole numbers, which is the clip and what rounding may add.

        Rounding is repeated until it adds no more than it does with probability 1 - exp(-1). That is the conditional
        rounding of Kairouz, Liu and Steinke (2021).
        """
        length = self.clip * self.scale
        likely = length**2 + self.padded / 4 + math.sqrt(2.0) * (length + math.sqrt(self.padded) / 2)
        return math.sqrt(min(likely, (length + math.sqrt(self.padded)) ** 2))

    @property
    def l1(self) -> float:
        """The largest sum of sizes, of whole numbers no more than the squared norm."""
        return min(self.l2**2, math.sqrt(self.padded) * self.l2)

    @property
    def variance(self) -> float:
        """The variance of the noise of each entry of the sum."""
        return (self.noise * self.clip * self.scale) ** 2

    def encode(self, vector: Tensor, *, generator: torch.Generator) -> Tensor:
        """One client's vector (numbers,) as whole numbers (padded,), float64: clipped, rotated, rounded, with noise.

        Raises ValueError for another shape and for values that are not finite.
        """
        if vector.shape != (self.numbers,) or not bool(vector.isfinite().all()):
            raise ValueError(f"expected {self.numbers} finite numbers; got shape {tuple(vector.shape)}.")
        rotated = self.rotated(clipped(vector.detach().to("cpu", torch.float64), self.clip))
        rounded = self.rounded(self.scale * rotated, generator=generator)
        rate = torch.full((self.padded,), self.variance / (2 * self.clients), dtype=torch.float64, device="cpu")
        return rounded + torch.poisson(rate, generator=generator) - torch.poisson(rate, generator=generator)

    def decode(self, total: Tensor) -> Tensor:
        """The sum of the clients' vectors (numbers,), from the sum (padded,) of what they sent."""
        signed = _hadamard(total.double()) / self.scale
        return (signed * self._signs())[: self.numbers]

    def rotated(self, vector: Tensor) -> Tensor:
        """The vector with random signs through a Hadamard transform: no entry stands out, and the norm stays."""
        padding = vector.new_zeros(self.padded - self.numbers)
        return _hadamard(torch.cat([vector, padding]) * self._signs())

    def rounded(self, vector: Tensor, *, generator: torch.Generator) -> Tensor:
        """Each entry up or down at random, so that it is right on average; again while the norm is over ``l2``.

        Raises ValueError for a vector that is longer than the clip, for which that might never end.
        """
        if not float(vector.norm()) <= (1 + 1e-6) * self.clip * self.scale:
            raise ValueError(
                f"expected a vector of norm {self.clip * self.scale:g} (clip times scale) or less, got "
                f"{float(vector.norm()):g}. Clip it first."
            )
        low = vector.floor()
        while True:
            chance = torch.rand(vector.shape, generator=generator, dtype=torch.float64, device="cpu")
            whole = low + (chance < vector - low)
            if float(whole.norm()) <= self.l2:
                return whole

    def _signs(self) -> Tensor:
        draws = torch.randint(2, (self.padded,), generator=seeded_generator(self.seed), device="cpu")
        return 2.0 * draws.double() - 1.0

    def epsilon(self, *, rounds: int, delta: float, honest: int | None = None) -> float:
        """The epsilon of a client, not of a sample, after ``rounds`` rounds in which all clients take part.

        Neighbours differ by one client added or removed. ``honest`` is how many of the clients really add their noise,
        all unless given. Raises ValueError for values out of range.
        """
        present = self.clients if honest is None else honest
        if not (0 < present <= self.clients and rounds > 0 and 0 < delta < 1):
            raise ValueError(
                f"expected 1 to {self.clients} honest clients, rounds from 1 and delta in (0, 1); got {present}, "
                f"{rounds} and {delta}."
            )
        variance = self.variance * present / self.clients
        return skellam_epsilon(self.l2, self.l1, variance=variance, rounds=rounds, delta=delta)


def skellam_epsilon(l2: float, l1: float, *, variance: float, rounds: int, delta: float) -> float:
    """An upper bound on the epsilon of ``rounds`` sums of whole numbers with Skellam noise of this ``variance``.

    ``l2`` and ``l1`` bound what one client adds to a sum. The divergences of the rounds add up, and the order is the
    one that serves best.

    Source: Agarwal, Kairouz and Liu (2021); the conversion to epsilon is that of Canonne, Kamath and Steinke (2020).
    Taught in: defenses/distributed_privacy.
    """

    def at(order: float) -> float:
        divergence = rounds * skellam_divergence(order, l2, l1, variance=variance)
        return divergence + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)

    return max(0.0, min(map(at, _ORDERS)))


def skellam_divergence(order: float, l2: float, l1: float, *, variance: float) -> float:
    """An upper bound on the Renyi divergence of this ``order`` between Skellam noise and the same noise, moved.

    ``a l2^2 / (2 v) + min(((2 a - 1) l2^2 + 6 l1) / (4 v^2), 3 l1 / (2 v))``, with a for ``order``, v for ``variance``
    and ``l2`` and ``l1`` for the norms of the move, in whole numbers.

    Source: Agarwal, Kairouz and Liu (2021), the bound for several dimensions. Taught in: defenses/distributed_privacy.
    """
    extra = min(((2 * order - 1) * l2**2 + 6 * l1) / (4 * variance**2), 3 * l1 / (2 * variance))
    return order * l2**2 / (2 * variance) + extra


def clipped(vectors: Tensor, norm: float) -> Tensor:
    """Vectors (..., D), each scaled down to at most this norm."""
    return vectors * (norm / vectors.norm(dim=-1, keepdim=True)).clamp(max=1)


def wrapped(total: Tensor, bits: int) -> Tensor:
    """Whole numbers modulo ``2 ** bits``, from ``-2 ** (bits - 1)`` on: what is left of a sum that overflows."""
    half = 2.0 ** (bits - 1)
    return torch.remainder(total.double() + half, 2 * half) - half


def _hadamard(vector: Tensor) -> Tensor:
    """The orthonormal Walsh-Hadamard transform of a vector whose length is a power of two. It undoes itself."""
    length, width = len(vector), 1
    while width < length:
        pairs = vector.reshape(-1, 2, width)
        vector = torch.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], dim=1).reshape(-1)
        width *= 2
    return vector / math.sqrt(length)
