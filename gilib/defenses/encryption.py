"""Additively homomorphic encryption: a server adds updates that it cannot read.

The messages (``EncryptedUpdate``), the roles (``...Public`` encrypts and adds, ``...Secret`` decrypts) and the encoding
of numbers (``FixedPoint``) are ours; the cryptography is that of ``phe`` (Paillier) and ``tenseal`` (CKKS). It is a
protocol among clients, a server and whoever holds the key, and therefore no ``Defense`` of a single client.

Teaching code, not an audited implementation: nothing here claims to run in constant time. Keys and ciphertexts are
drawn from the operating system and never seeded, because a key that somebody can repeat is no key.
"""

import hashlib
import hmac
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import tenseal  # type: ignore[import-untyped]
import torch
from phe import paillier  # type: ignore[import-untyped]
from torch import Tensor

from gilib.federated import Gradients, Update

__all__ = [
    "CKKSPublic",
    "CKKSSecret",
    "EncryptedUpdate",
    "FixedPoint",
    "PaillierPublic",
    "PaillierSecret",
    "ckks_keys",
    "flat",
    "paillier_keys",
    "unflat",
]


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
        return torch.tensor([total - clients * self.largest for total in totals], dtype=torch.float64) * self.step

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


@dataclass(frozen=True)
class EncryptedUpdate:
    """The message that leaves a client and that the server holds: ciphertexts, and what is readable beside them.

    ``blocks`` are the ciphertexts as bytes. ``key`` names the public key. ``clients`` counts the updates that were
    added, ``shapes`` are those of the parameters, and ``agreed`` is the update without its gradients.

    Taught in: defenses/encryption.
    """

    key: str
    blocks: tuple[bytes, ...] = field(repr=False)
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)
    agreed: Update = field(repr=False)
    clients: int = 1

    @property
    def size(self) -> int:
        """Bytes of all ciphertexts."""
        return sum(map(len, self.blocks))

    def tag(self, secret: bytes) -> bytes:
        """The HMAC-SHA256 of the message under a ``secret`` of sender and receiver: authenticated transport.

        It covers the ciphertexts, the parameters in their order, and what a client says beside them: samples, labels,
        statistics. Loss and defenses were agreed before. Compare with ``hmac.compare_digest``. Whoever adds updates
        makes a new message, so a tag ends at the server; a message of an earlier round keeps its tag, so that every
        round takes a new ``secret``.
        """
        lengths, said = [len(block) for block in self.blocks], self.agreed
        labels = None if said.labels is None else said.labels.tolist()
        buffers = [(name, value.tolist()) for name, value in (said.buffers or {}).items()]
        clear = (said.batch_size, said.image_shape, said.local, said.mode, labels, buffers)
        header = (self.key, self.clients, list(self.shapes.items()), clear, lengths)
        return hmac.digest(secret, repr(header).encode() + b"".join(self.blocks), "sha256")


@dataclass(frozen=True)
class PaillierPublic:
    """Paillier with packing, as clients and server have it: encrypts and adds, and cannot decrypt.

    ``slots`` numbers share a ciphertext. Source: Paillier (1999). Taught in: defenses/encryption.
    """

    codec: FixedPoint
    slots: int
    key: paillier.PaillierPublicKey = field(repr=False)

    @property
    def name(self) -> str:
        """The kind of key and its fingerprint."""
        return f"Paillier {self.key.n.bit_length()} {hashlib.sha256(str(self.key.n).encode()).hexdigest()[:8]}"

    def encrypt(self, update: Update) -> EncryptedUpdate:
        """The message of one client. Raises ValueError where a value overflows the codec."""
        codes = self.codec.encode(flat(update))
        rows = [codes[start : start + self.slots] for start in range(0, len(codes), self.slots)]
        return _message(self.name, [self._bytes(self.key.raw_encrypt(self.codec.pack(row))) for row in rows], update)

    def add(self, messages: Sequence[EncryptedUpdate]) -> EncryptedUpdate:
        """The sum of updates: the product of their ciphertexts. Raises ValueError for messages that do not fit."""
        clients = _check_sum(messages, self.name, self.codec.clients)
        blocks = []
        for column in zip(*(message.blocks for message in messages), strict=True):
            product = 1
            for block in column:
                product = product * int.from_bytes(block) % self.key.nsquare
            blocks.append(self._bytes(product))
        return replace(messages[0], blocks=tuple(blocks), clients=clients, agreed=_agreed(messages))

    def _bytes(self, ciphertext: int) -> bytes:
        return int(ciphertext).to_bytes((self.key.nsquare.bit_length() + 7) // 8)


@dataclass(frozen=True)
class PaillierSecret:
    """The secret Paillier key, and with it every update that was encrypted under its public one."""

    public: PaillierPublic
    key: paillier.PaillierPrivateKey = field(repr=False)

    def decrypt(self, message: EncryptedUpdate) -> Update:
        """The mean of the updates that were added, in float64, off by at most half a step of the codec.

        Its ``batch_size`` is that of all of them. Raises ValueError for another key, and for slots that overflowed; a
        change that leaves every slot in its range is not noticed.
        """
        _check_key(message, self.public.name)
        totals: list[int] = []
        for block, count in zip(message.blocks, _counts(message, self.public.slots), strict=True):
            totals += self.public.codec.unpack(int(self.key.raw_decrypt(int.from_bytes(block))), count)
        return _update(message, self.public.codec.decode(totals, clients=message.clients))


def paillier_keys(
    codec: FixedPoint, *, bits: int = 2048, slots: int | None = None
) -> tuple[PaillierPublic, PaillierSecret]:
    """A new pair of Paillier keys with a modulus of ``bits`` bits, and as many slots as fit unless stated.

    Raises ValueError where a ciphertext does not have room for the ``slots``, or for one.
    """
    room = (bits - 1) // codec.width
    slots = room if slots is None else slots
    if not 1 <= slots <= room:
        raise ValueError(f"a key of {bits} bits has room for {room} slots of {codec.width} bits; got slots={slots}.")
    key, secret = paillier.generate_paillier_keypair(n_length=bits)
    public = PaillierPublic(codec, slots, key)
    return public, PaillierSecret(public, secret)


@dataclass(frozen=True)
class CKKSPublic:
    """CKKS as clients and server have it: encrypts and adds approximate numbers, and cannot decrypt.

    Values lie in ``±bound``, and sums of ``clients`` of them fit. ``degree / 2`` numbers share a ciphertext. Source:
    Cheon et al. (2017). Taught in: defenses/encryption.
    """

    bound: float
    clients: int
    degree: int
    context: tenseal.Context = field(repr=False)

    @property
    def name(self) -> str:
        """The kind of key and its fingerprint."""
        public = self.context.serialize(save_secret_key=False, save_galois_keys=False, save_relin_keys=False)
        return f"CKKS {self.degree} {hashlib.sha256(public).hexdigest()[:8]}"

    def encrypt(self, update: Update) -> EncryptedUpdate:
        """The message of one client. Raises ValueError for values outside ``±bound``."""
        values = flat(update)
        if not bool((values.abs() <= self.bound).all()):
            raise ValueError(f"expected values in ±{self.bound}, got up to {float(values.abs().max())}: raise bound.")
        chunks = values.split(self.degree // 2)
        vectors = [tenseal.ckks_vector(self.context, chunk.tolist()) for chunk in chunks]
        return _message(self.name, [vector.serialize() for vector in vectors], update)

    def add(self, messages: Sequence[EncryptedUpdate]) -> EncryptedUpdate:
        """The sum of updates. Raises ValueError for messages that do not fit."""
        clients = _check_sum(messages, self.name, self.clients)
        blocks = []
        for column in zip(*(message.blocks for message in messages), strict=True):
            total, *rest = [tenseal.ckks_vector_from(self.context, block) for block in column]
            for vector in rest:
                total = total + vector
            blocks.append(total.serialize())
        return replace(messages[0], blocks=tuple(blocks), clients=clients, agreed=_agreed(messages))


@dataclass(frozen=True)
class CKKSSecret:
    """The secret CKKS key. Its holder must not publish raw decryptions: see Li & Micciancio (2021)."""

    public: CKKSPublic
    context: tenseal.Context = field(repr=False)

    def decrypt(self, message: EncryptedUpdate) -> Update:
        """The mean of the updates that were added, up to the noise of the scheme.

        Raises ValueError for another key, and for sums that ``clients`` values in ``±bound`` cannot have; a change that
        leaves every sum in its range is not noticed.
        """
        _check_key(message, self.public.name)
        values: list[float] = []
        for block, _ in zip(message.blocks, _counts(message, self.public.degree // 2), strict=True):
            values += tenseal.ckks_vector_from(self.context, block).decrypt()
        sums = torch.tensor(values, dtype=torch.float64)
        if not bool((sums.abs() <= 1.001 * self.public.bound * message.clients).all()):  # the noise may pass the bound
            raise ValueError("a slot holds more than the sum of its updates can be: it overflowed, or was changed.")
        return _update(message, sums)


def ckks_keys(
    *, bound: float = 8.0, clients: int = 8, scale_bits: int = 40, degree: int = 4096
) -> tuple[CKKSPublic, CKKSSecret]:
    """A new pair of CKKS keys for sums: one modulus of 60 bits, and the 49 bits that key switching needs.

    A number is multiplied by ``2 ** scale_bits`` and rounded. Raises ValueError where the sum of ``clients`` numbers of
    size ``bound`` would not fit into the modulus. SEAL, which does the work, refuses unsafe choices of ``degree``.
    """
    if not bound > 0 or clients < 1:
        raise ValueError(f"expected a bound over 0 and clients from 1; got {bound} and {clients}.")
    if not bound * clients * 2.0**scale_bits < 2.0**58:
        raise ValueError(
            f"the sum of {clients} numbers of size {bound} at scale 2**{scale_bits} overflows a modulus of 60 bits: "
            "lower scale_bits, bound or clients."
        )
    secret = tenseal.context(tenseal.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=[60, 49])
    secret.global_scale = 2.0**scale_bits
    context = secret.copy()
    context.make_context_public()
    public = CKKSPublic(bound, clients, degree, context)
    return public, CKKSSecret(public, secret)


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


def _message(key: str, blocks: Sequence[bytes], update: Update) -> EncryptedUpdate:
    shapes = {name: tuple(value.shape) for name, value in update.gradients.items()}
    return EncryptedUpdate(key, tuple(blocks), shapes, replace(update, gradients={}))


def _counts(message: EncryptedUpdate, slots: int) -> list[int]:
    """How many numbers each ciphertext holds. Raises ValueError where there are more or fewer ciphertexts."""
    numbers = sum(math.prod(shape) for shape in message.shapes.values())
    counts = [min(slots, numbers - start) for start in range(0, numbers, slots)]
    if len(counts) != len(message.blocks):
        raise ValueError(f"{numbers} numbers take {len(counts)} ciphertexts; the message has {len(message.blocks)}.")
    return counts


def _update(message: EncryptedUpdate, sums: Tensor) -> Update:
    return replace(message.agreed, gradients=unflat(sums / message.clients, message.shapes))


def _agreed(messages: Sequence[EncryptedUpdate]) -> Update:
    """What is readable of a sum: labels and statistics of single clients are not part of it."""
    total = sum(message.agreed.batch_size for message in messages)
    return replace(messages[0].agreed, batch_size=total, labels=None, buffers=None)


def _check_key(message: EncryptedUpdate, name: str) -> None:
    if message.key != name:
        raise ValueError(f"the message is encrypted under {message.key!r}, and this key is {name!r}.")


def _check_sum(messages: Sequence[EncryptedUpdate], name: str, room: int) -> int:
    """The number of clients in the sum, or a ValueError that says why there is none."""
    if not messages:
        raise ValueError("expected at least one message to add, got none.")
    for message in messages:
        _check_key(message, name)
        if list(message.shapes.items()) != list(messages[0].shapes.items()):  # the order decides who is added to whom
            raise ValueError(
                "expected updates of one model; the messages have parameters of different shapes or order."
            )
        if len(message.blocks) != len(messages[0].blocks):
            raise ValueError("expected messages of equally many ciphertexts: one was cut, or has other slots.")
    clients = sum(message.clients for message in messages)
    if clients > room:
        raise ValueError(f"there is room for the sum of {room} updates, and these are {clients}: ask for more clients.")
    return clients
