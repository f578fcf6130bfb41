"""What clients and a server of secure aggregation agree on, and the messages that they exchange."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from gilib.defenses.encryption import FixedPoint, flat, unflat
from gilib.defenses.means import agreed, summed_weight
from gilib.defenses.secret_sharing import PRIME, Residues
from gilib.federated import Update

__all__ = [
    "Agreement",
    "Answer",
    "Keys",
    "Message",
    "ProtocolError",
    "Request",
    "Sealed",
    "Upload",
    "as_bytes",
    "as_residues",
    "flat",
    "mean_update",
]


class ProtocolError(ValueError):
    """A party stops, because going on could reveal more than a sum, or because no sum can be had."""


@dataclass(frozen=True)
class Agreement:
    """What clients and server agree on before the round: ``numbers`` in an update, and how many may collude or leave.

    Any ``needed`` of the ``clients`` can finish the round, so ``clients - needed`` may drop out. Any ``private``
    clients that tell the server all they have learn no more than the sum; masking with seeds allows ``needed - 1``.
    ``needed`` should be more than half of the clients: otherwise a server that lies could ask two halves for two sums.
    Where clients collude with it, and so answer twice, ``2 * needed`` should exceed ``clients`` by more than these.
    ``codec`` makes numbers whole; the sum of all clients has to fit below `PRIME`. Raises ValueError unless
    ``1 <= private < needed <= clients``, and where the codec leaves too little room.

    Taught in: defenses/secure_aggregation.
    """

    numbers: int
    clients: int
    private: int
    needed: int
    codec: FixedPoint

    def __post_init__(self) -> None:
        if not 1 <= self.private < self.needed <= self.clients or self.numbers < 1:
            raise ValueError(f"expected numbers >= 1 and 1 <= private < needed <= clients; got {self}.")
        if self.codec.clients < self.clients or 2 * self.codec.largest * self.clients >= PRIME:
            raise ValueError(
                f"the sum of {self.clients} codes of {self.codec.bits} bits must fit into the codec (room for "
                f"{self.codec.clients} clients) and below {PRIME}. Raise codec.clients, or lower codec.bits."
            )

    @property
    def packed(self) -> int:
        """The number of pieces that an update or a mask is cut into, where one sharing packs several secrets."""
        return self.needed - self.private

    def pieces(self, codes: Residues) -> Residues:
        """The residues (numbers,) cut into rows (packed, M), with zeros at the end."""
        columns = -(-self.numbers // self.packed)
        return np.append(codes, np.zeros(self.packed * columns - self.numbers, np.int64)).reshape(self.packed, columns)

    def joined(self, pieces: Residues) -> Residues:
        """Undo ``pieces``."""
        return pieces.reshape(-1)[: self.numbers]

    def encode(self, values: Tensor) -> Residues:
        """The codes (numbers,) of an update. Raises ValueError for another length, and where a value overflows."""
        if values.shape != (self.numbers,):
            raise ValueError(f"expected {self.numbers} numbers, as agreed; got shape {tuple(values.shape)}.")
        return np.array(self.codec.encode(values), dtype=np.int64)

    def check_enough(self, count: int, what: str) -> None:
        """Raise ProtocolError where fewer than ``needed`` clients are left."""
        if count < self.needed:
            raise ProtocolError(
                f"{what}: {self.needed} of {self.clients} clients are needed, and there are {count}. With fewer the "
                "sum cannot be had, or would say too much about each of them."
            )


class Message:
    """Base of what is sent. ``size`` counts the payload in bytes; the small numbers that name clients are left out."""

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return sum(len(value) for value in vars(self).values() if isinstance(value, bytes))


@dataclass(frozen=True)
class Keys(Message):
    """Two public keys of a client: one to seal letters with, and one for masks, whose secret half may be revealed."""

    client: int
    sealing: bytes = field(repr=False)
    masking: bytes = field(repr=False)


@dataclass(frozen=True)
class Sealed(Message):
    """A letter from client to client, which the server forwards and cannot read."""

    sender: int
    receiver: int
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Upload(Message):
    """A hidden update, or only a sign of life where the protocol uploads none."""

    client: int
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Request(Message):
    """What the server asks all clients: to help with the sum of ``members``, in spite of the ``dropped``."""

    members: tuple[int, ...]
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer(Message):
    """The help of one client: shares of seeds, or a sum of shares."""

    client: int
    body: bytes = field(repr=False)


def as_bytes(residues: Residues) -> bytes:
    """Residues as they are sent, four bytes each."""
    return residues.astype("<u4").tobytes()


def as_residues(body: bytes) -> Residues:
    """Undo ``as_bytes``. Raises ValueError for what is no list of residues."""
    if len(body) % 4:
        raise ValueError(f"expected residues of 4 bytes; the message has {len(body)} bytes, so it was changed.")
    residues = np.frombuffer(body, dtype="<u4").astype(np.int64)
    if (residues >= PRIME).any():
        raise ValueError(f"expected residues below {PRIME}; the message holds others, so it was changed.")
    return residues


def mean_update(total: Tensor, members: Sequence[Update]) -> Update:
    """The mean of the members' updates as one ``Update``, from their sum: what the server holds after the round.

    It is the mean over samples, and its ``batch_size`` that of all members. Labels and statistics of single clients are
    not part of it. Raises ValueError without members, for a sum of another length, and for members that trained
    differently or hold different numbers of samples and were not ``weighed`` (see `gilib.defenses.means`).
    """
    together = agreed(members)
    shapes = {name: tuple(value.shape) for name, value in members[0].gradients.items()}
    return replace(together, gradients=unflat(total / summed_weight(members), shapes))
