"""Updates as vectors, and real numbers as whole ones that can be added and packed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gilib.federated import Gradients, Update


@dataclass(frozen=True)
class FixedPoint:
    """Real numbers in ``±bound`` as whole numbers of ``bits`` bits, with room for the sum of ``clients`` of them.

    A number is rounded to a multiple of ``step`` and shifted, so that none is negative. A slot is ``width`` bits wide:
    ``bits``, and the guard bits into which a sum grows. Raises ValueError unless ``bits`` is 2 to 48, ``bound``
    positive and finite, and ``clients`` at least 1.

    Source: Zhang et al. (2020), for quantizing and packing in one integer. Taught in: defenses/encryption.

    >>> FixedPoint(bits=4, bound=7.0, clients=2).encode(torch.tensor([-7.0, 0.0, 3.2]))
    [0, 7, 10]
    """

    bits: int = 20
    bound: float = 8.0
    clients: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 48 or not 0 < self.bound < float("inf") or self.clients < 1:
            raise ValueError(f"expected bits from 2 to 48, a finite bound over 0 and clients from 1; got {self}.")

    @property
    def largest(self) -> int:
        """The whole number of ``bound`` before the shift, so that codes lie in ``0..2 * largest``."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def step(self) -> float:
        """The distance of two neighbouring numbers. Rounding is off by at most half of it."""
        return self.bound / self.largest

    @property
    def width(self) -> int:
        """Bits of a slot, which hold the sum of ``clients`` codes without touching the next slot."""
        return (2 * self.largest * self.clients).bit_length()

    def encode(self, values: Tensor) -> list[int]:
        """The codes of ``values`` (D,). Raises ValueError for a value outside ``±bound``, NaN included."""
        if not bool((values.abs() <= self.bound).all()):
            raise ValueError(
                f"expected values in ±{self.bound}, got {float(values.min())} to {float(values.max())}, which would "
                "overflow the encoding. Raise bound, or clip the update before it is encrypted."
            )
        codes: list[int] = ((values.double() / self.step).round().long() + self.largest).tolist()
        return codes

    def decode(self, totals: Sequence[int], *, clients: int = 1) -> Tensor:
        """The sums (D,), float64, from ``totals``, each a sum of ``clients`` codes.

        Raises ValueError for more clients than the codec has room for, and for a total that no such sum can have.
        """
        if not 1 <= clients <= self.clients:
            raise ValueError(f"slots of {self.width} bits hold at most {self.clients} updates; got {clients}.")
        if totals and not 0 <= min(totals) <= max(totals) <= 2 * self.largest * clients:
            raise ValueError("a slot holds more than the sum of its updates can be: it overflowed, or was changed.")
        return (
            torch.tensor([total - clients * self.largest for total in totals], dtype=torch.float64, device="cpu")
            * self.step
        )

    def pack(self, codes: Sequence[int]) -> int:
        """Several codes beside one another in one whole number, the first in the lowest bits.

        Raises ValueError for a code that does not fit into a slot.
        """
        if codes and not 0 <= min(codes) <= max(codes) < 1 << self.width:
            raise ValueError(f"slots hold 0 to {(1 << self.width) - 1}; got {min(codes)} to {max(codes)}: overflow.")
        return sum(code << (place * self.width) for place, code in enumerate(codes))

    def unpack(self, packed: int, count: int) -> list[int]:
        """The ``count`` codes, or sums of codes, in ``packed``. Raises ValueError if bits are left over."""
        if packed >> (count * self.width):
            raise ValueError(f"the number has more than {count} slots of {self.width} bits: overflowed, or changed.")
        return [(packed >> (place * self.width)) % (1 << self.width) for place in range(count)]


def flat(update: Update) -> Tensor:
    """The gradients of an update as one vector, float64."""
    return torch.cat([value.detach().cpu().double().flatten() for value in update.gradients.values()])


def unflat(vector: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> Gradients:
    """Undo ``flat``: the gradients of these ``shapes``. Raises ValueError for a vector of another length."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"expected {sum(sizes)} numbers, those of the parameters; got shape {tuple(vector.shape)}.")
    named = zip(shapes.items(), vector.split(sizes), strict=True)
    return {name: part.reshape(shape) for (name, shape), part in named}
