"""The two roles of CKKS: sums of approximate numbers, many to a ciphertext."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import tenseal  # type: ignore[import-untyped]
import torch

from gilib.defenses.encryption.fixed_point import flat
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
        return message_of(self.name, [vector.serialize() for vector in vectors], update)

    def add(self, messages: Sequence[EncryptedUpdate]) -> EncryptedUpdate:
        """The sum of updates. Raises ValueError for messages that do not fit."""
        clients = check_sum(messages, self.name, self.clients)
        blocks = []
        for column in zip(*(message.blocks for message in messages), strict=True):
            total, *rest = [tenseal.ckks_vector_from(self.context, block) for block in column]
            for vector in rest:
                total = total + vector
            blocks.append(total.serialize())
        return replace(messages[0], blocks=tuple(blocks), clients=clients, agreed=agreed_of(messages))


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
        check_key(message, self.public.name)
        values: list[float] = []
        for block, _ in zip(message.blocks, counts(message, self.public.degree // 2), strict=True):
            values += tenseal.ckks_vector_from(self.context, block).decrypt()
        sums = torch.tensor(values, dtype=torch.float64, device="cpu")
        if not bool((sums.abs() <= 1.001 * self.public.bound * message.clients).all()):  # the noise may pass the bound
            raise ValueError("a slot holds more than the sum of its updates can be: it overflowed, or was changed.")
        return mean_of(message, sums)


def ckks_keys(
    *, bound: float = 8.0, clients: int = 8, scale_bits: int = 40, degree: int = 4096
) -> tuple[CKKSPublic, CKKSSecret]:
    """A new pair of CKKS keys for sums: one modulus of 60 bits, and the 49 bits that key switching needs.

    A number is multiplied by ``2 ** scale_bits`` and rounded. Raises ValueError where the sum of ``clients`` numbers of
    size ``bound`` would not fit into the modulus. SEAL, which does the work, refuses unsafe choices of ``degree``.

    Known as: CKKS (defense). Needs a key that the server does not have. Taught in: defenses/encryption.
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
