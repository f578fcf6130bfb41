"""SecAgg: updates under masks that cancel. What is shared are the seeds of the masks."""

import secrets
from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gilib.defenses.aggregation_messages import Agreement, ProtocolError, Request, as_bytes, as_residues
from gilib.defenses.aggregation_parties import Member, Server, shared_key
from gilib.defenses.secret_sharing import PRIME, Residues, Sharing, uniform

_CHUNKS = 16  # a secret of 32 bytes is shared as 16 numbers of 16 bits


class MaskingMember(Member):
    """A client of SecAgg: a mask of its own, and one with every other client, which the two add with opposite signs.

    The seed of the one and the secret key of the others are shared. Of a client that stayed the seed is revealed, of
    one that dropped out the key, and never both: together they would open its update.

    Known as: SecAgg (defense). Needs other clients, of whom enough stay to the end.
    Source: Bonawitz et al. (2017), the version for an honest server, without signatures. Taught in:
    defenses/secure_aggregation.
    """

    def _letters(self) -> dict[int, bytes]:
        self._seed = secrets.token_bytes(32)
        sharing = _seed_sharing(self.agreed)
        shares = [sharing.share(_numbers(secret)) for secret in (self._seed, self._masking.private_bytes_raw())]
        return {peer: as_bytes(np.concatenate([share[peer] for share in shares])) for peer in self._peers}

    def _hidden(self) -> Residues:
        total = self._own() + uniform(self.agreed.numbers, seed=self._seed)
        for peer in self._received.keys() - {self.number}:
            total = total + pair_mask(self.number, self._masking, peer, self._peers[peer].masking, self.agreed.numbers)
        return total % PRIME

    def _revealed(self, request: Request) -> Residues:
        if {*request.members, *request.dropped} != self._received.keys():
            raise ProtocolError(
                "every client that shared is in the sum or has dropped out; this request leaves some out."
            )
        held = {client: as_residues(letter) for client, letter in self._received.items()}
        seeds = [held[client][:_CHUNKS] for client in request.members]
        return np.concatenate([*seeds, *(held[client][_CHUNKS:] for client in request.dropped)])


class MaskingServer(Server):
    """The server of SecAgg: it restores seeds and keys, and takes the masks off that did not cancel."""

    def _asked(self) -> Request:
        left = tuple(client for client in self._sharers if client not in self._uploads)
        return Request(tuple(sorted(self._uploads)), left)

    def _sum(self, answers: Mapping[int, Residues]) -> Residues:
        total: Residues = sum(self._uploads.values(), np.zeros(self.agreed.numbers, dtype=np.int64))
        restored = _seed_sharing(self.agreed).recover(answers).reshape(-1, _CHUNKS)
        members, dropped = self._request.members, self._request.dropped
        for row in restored[: len(members)]:
            total = total - uniform(self.agreed.numbers, seed=_secret(row))
        for client, row in zip(dropped, restored[len(members) :], strict=True):
            key = X25519PrivateKey.from_private_bytes(_secret(row))
            if key.public_key().public_bytes_raw() != self._keys[client].masking:
                raise ProtocolError(
                    f"the key restored for client {client} is not the one it advertised: a share was changed."
                )
            for member in members:
                total = total + pair_mask(client, key, member, self._keys[member].masking, self.agreed.numbers)
        return total % PRIME


def _seed_sharing(agreed: Agreement) -> Sharing:
    return Sharing(agreed.clients, agreed.needed - 1)


def _numbers(secret: bytes) -> Residues:
    """32 bytes as a row of 16 numbers below 2**16."""
    return np.frombuffer(secret, dtype="<u2").astype(np.int64)[None]


def _secret(numbers: Residues) -> bytes:
    """Undo ``_numbers``. Raises ProtocolError for what is not the numbers of a secret."""
    if (numbers >= 2**16).any():
        raise ProtocolError("the shares of a seed or key restore something else: a share was changed.")
    return numbers.astype("<u2").tobytes()


def pair_mask(client: int, key: X25519PrivateKey, peer: int, public: bytes, count: int) -> Residues:
    """The mask that ``client`` shares with ``peer``, with the sign that ``client`` adds it with."""
    mask = uniform(count, seed=shared_key(key, public, b"mask"))
    return mask if client < peer else -mask
