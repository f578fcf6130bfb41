"""The two roles of Paillier's scheme: exact sums, with several numbers packed into a ciphertext."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from phe import paillier  # type: ignore[import-untyped]

from gilib.defenses.encryption.fixed_point import FixedPoint, flat
from gilib.defenses.encryption.messages import (
    EncryptedUpdate,
    agreed_of,
    check_key,
    check_sum,
    counts,
    mean_of,
    message_of,
)
from gilib.federated import Update


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
        return message_of(self.name, [self._bytes(self.key.raw_encrypt(self.codec.pack(row))) for row in rows], update)

    def add(self, messages: Sequence[EncryptedUpdate]) -> EncryptedUpdate:
        """The sum of updates: the product of their ciphertexts. Raises ValueError for messages that do not fit."""
        clients = check_sum(messages, self.name, self.codec.clients)
        blocks = []
        for column in zip(*(message.blocks for message in messages), strict=True):
            product = 1
            for block in column:
                product = product * int.from_bytes(block) % self.key.nsquare
            blocks.append(self._bytes(product))
        return replace(messages[0], blocks=tuple(blocks), clients=clients, agreed=agreed_of(messages))

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
        check_key(message, self.public.name)
        totals: list[int] = []
        for block, count in zip(message.blocks, counts(message, self.public.slots), strict=True):
            totals += self.public.codec.unpack(int(self.key.raw_decrypt(int.from_bytes(block))), count)
        return mean_of(message, self.public.codec.decode(totals, clients=message.clients))


def paillier_keys(
    codec: FixedPoint, *, bits: int = 2048, slots: int | None = None
) -> tuple[PaillierPublic, PaillierSecret]:
    """A new pair of Paillier keys with a modulus of ``bits`` bits, and as many slots as fit unless stated.

    Raises ValueError where a ciphertext does not have room for the ``slots``, or for one.

    Known as: Paillier (defense). Needs a key that the server does not have.
    Source: Paillier (1999); that a server adds encrypted gradients, Phong et al. (2018).
    Taught in: defenses/encryption.
    """
    room = (bits - 1) // codec.width
    slots = room if slots is None else slots
    if not 1 <= slots <= room:
        raise ValueError(f"a key of {bits} bits has room for {room} slots of {codec.width} bits; got slots={slots}.")
    key, secret = paillier.generate_paillier_keypair(n_length=bits)
    public = PaillierPublic(codec, slots, key)
    return public, PaillierSecret(public, secret)
