"""Secure aggregation: a server learns the sum of its clients' updates and, if all keep to the protocol, nothing else.

Three protocols, each a class for the client and one for the server. *Masking* (SecAgg) hides updates under masks that
cancel, and shares the seeds of the masks. *FastSecAgg* shares the updates themselves. *LightSecAgg* hides each update
under one mask, shares the masks, and takes off their sum. They differ in what is shared; the sharing is always that of
`gilib.defenses.secret_sharing`. A round is a protocol among many, and therefore no ``Defense`` of a single client.

Teaching code, not an audited implementation: nothing here claims to run in constant time.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from torch import Tensor

from gilib.defenses.aggregation_messages import Agreement, Message, ProtocolError, Request, as_bytes, as_residues
from gilib.defenses.aggregation_parties import Member, Server, shared_key
from gilib.defenses.secret_sharing import PRIME, FastSharing, Residues, Sharing, uniform

__all__ = [
    "PROTOCOLS",
    "FastMember",
    "FastServer",
    "LightMember",
    "LightServer",
    "MaskingMember",
    "MaskingServer",
    "Protocol",
    "Round",
    "aggregate",
]

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_Sent = TypeVar("_Sent", bound=Message | Sequence[Message])
_MESSAGES = ("share", "upload", "answer")
_CHUNKS = 16  # a secret of 32 bytes is shared as 16 numbers of 16 bits


class MaskingMember(Member):
    """A client of SecAgg: a mask of its own, and one with every other client, which the two add with opposite signs.

    The seed of the one and the secret key of the others are shared. Of a client that stayed the seed is revealed, of
    one that dropped out the key, and never both: together they would open its update.

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
            total = total + _pair_mask(self.number, self._masking, peer, self._peers[peer].masking, self.agreed.numbers)
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
                total = total + _pair_mask(client, key, member, self._keys[member].masking, self.agreed.numbers)
        return total % PRIME


class _SharingMember(Member):
    """A client that answers with the sum of the shares that it holds of the members."""

    def _revealed(self, request: Request) -> Residues:
        shares = [as_residues(self._received[client]) for client in request.members]
        total: Residues = np.sum(shares, axis=0) % PRIME
        return total


class FastMember(_SharingMember):
    """A client of FastSecAgg: it cuts its update into pieces and shares them, packed, by FFT. It uploads nothing more.

    It must ``hold`` its update before it shares, and is in the sum from then on, even if it drops out.

    Source: Kadhe et al. (2020) for the idea. Ours is packed Shamir sharing at roots of unity and recovers from any set
    of enough clients; theirs promises to do so from random sets. Taught in: defenses/secure_aggregation.
    """

    def _letters(self) -> dict[int, bytes]:
        shares = _fast_sharing(self.agreed).share(self.agreed.pieces(self._own()))
        return {peer: as_bytes(shares[peer]) for peer in self._peers}

    def _hidden(self) -> Residues:
        return np.empty(0, dtype=np.int64)


class FastServer(Server):
    """The server of FastSecAgg: it recovers the sum from sums of shares."""

    def _asked(self) -> Request:
        return Request(tuple(self._sharers))

    def _sum(self, answers: Mapping[int, Residues]) -> Residues:
        return self.agreed.joined(_fast_sharing(self.agreed).recover(answers))


class LightMember(_SharingMember):
    """A client of LightSecAgg: one random mask, cut into pieces and coded for the others, hides its update.

    The masks are shared before there is an update, so that this can be done while the client trains.

    Source: So et al. (2021); ``needed`` is their U, ``private`` their T. Taught in: defenses/secure_aggregation.
    """

    def _letters(self) -> dict[int, bytes]:
        self._mask = uniform(self.agreed.numbers)
        shares = _mask_sharing(self.agreed).share(self.agreed.pieces(self._mask))
        return {peer: as_bytes(shares[peer]) for peer in self._peers}

    def _hidden(self) -> Residues:
        return (self._own() + self._mask) % PRIME


class LightServer(Server):
    """The server of LightSecAgg: it recovers the sum of the members' masks in one go and subtracts it."""

    def _asked(self) -> Request:
        return Request(tuple(sorted(self._uploads)))

    def _sum(self, answers: Mapping[int, Residues]) -> Residues:
        mask = self.agreed.joined(_mask_sharing(self.agreed).recover(answers))
        total: Residues = (sum(self._uploads.values()) - mask) % PRIME
        return total


@dataclass(frozen=True)
class Protocol:
    """The two sides of a protocol of secure aggregation."""

    name: str
    member: Callable[[int, Agreement], Member]
    server: Callable[[Agreement], Server]


PROTOCOLS = {
    "masking": Protocol("masking", MaskingMember, MaskingServer),
    "fast": Protocol("fast", FastMember, FastServer),
    "light": Protocol("light", LightMember, LightServer),
}


@dataclass(frozen=True)
class Round:
    """What came out of a round: the ``sums`` (numbers,) of the ``members``, and what it cost.

    ``sent`` has the bytes that each client sent, by client and by the method that made the message. ``seconds`` has
    the processor time that one client took on average, and that of the server. ``uploads`` is what the server saw of
    each update.
    """

    sums: Tensor = field(repr=False)
    members: tuple[int, ...]
    sent: Mapping[int, Mapping[str, int]] = field(repr=False)
    seconds: Mapping[str, float]
    uploads: Mapping[int, Residues] = field(repr=False)


def aggregate(
    protocol: Protocol, agreed: Agreement, values: Sequence[Tensor], *, lost: Mapping[int, str] | None = None
) -> Round:
    """Play one round on this machine, in which every client and the server see only their messages.

    ``values`` are the clients' updates, (numbers,) each. ``lost`` says who drops out, and which message it no longer
    sends: "share", "upload" or "answer". Raises ProtocolError where too few are left, and ValueError for another number
    of clients, another word, or an update that overflows.

    Taught in: defenses/secure_aggregation.
    """
    if len(values) != agreed.clients or not set((lost or {}).values()) <= set(_MESSAGES):
        raise ValueError(f"expected {agreed.clients} updates and losses at 'share', 'upload' or 'answer'; got {lost}.")
    return _Play(protocol, agreed, dict(lost or {})).run(values)


class _Play:
    """A round on this machine, with its clock and its scales."""

    def __init__(self, protocol: Protocol, agreed: Agreement, lost: Mapping[int, str]) -> None:
        self.lost, self.server = lost, protocol.server(agreed)
        self.members = [protocol.member(number, agreed) for number in range(agreed.clients)]
        self.sent: dict[int, dict[str, int]] = {member.number: {} for member in self.members}
        self.seconds = {"client": 0.0, "server": 0.0}

    def run(self, values: Sequence[Tensor]) -> Round:
        server = self.server
        for member, one in zip(self.members, values, strict=True):
            member.hold(one)
        keys = self._serve(server.forward_keys, [self._send(one, one.advertise) for one in self.members])
        letters = [self._send(one, one.share, keys) for one in self._left("share")]
        boxes = self._serve(server.forward, [letter for box in letters for letter in box])
        uploads = [self._send(one, one.upload, boxes[one.number]) for one in self._left("upload")]
        request = self._serve(server.request, uploads)
        answers = [self._send(one, one.answer, request) for one in self._left("answer")]
        sums = self._serve(server.total, answers)
        seen = {upload.client: as_residues(upload.body) for upload in uploads}
        seconds = {"client": self.seconds["client"] / len(self.members), "server": self.seconds["server"]}
        return Round(sums, request.members, self.sent, seconds, seen)

    def _left(self, message: str) -> list[Member]:
        """The clients that still send this message."""
        gone = _MESSAGES[: _MESSAGES.index(message) + 1]
        return [member for member in self.members if self.lost.get(member.number) not in gone]

    def _serve(self, step: Callable[[_In], _Out], received: _In) -> _Out:
        start = time.process_time()
        result = step(received)
        self.seconds["server"] += time.process_time() - start
        return result

    def _send(self, member: Member, step: Callable[..., _Sent], *received: object) -> _Sent:
        start = time.process_time()
        sent = step(*received)
        self.seconds["client"] += time.process_time() - start
        messages = [sent] if isinstance(sent, Message) else sent
        self.sent[member.number][step.__name__] = sum(message.size for message in messages)
        return sent


def _seed_sharing(agreed: Agreement) -> Sharing:
    return Sharing(agreed.clients, agreed.needed - 1)


def _mask_sharing(agreed: Agreement) -> Sharing:
    return Sharing(agreed.clients, agreed.private, agreed.packed)


def _fast_sharing(agreed: Agreement) -> Sharing:
    return FastSharing(agreed.clients, agreed.private, agreed.packed)


def _numbers(secret: bytes) -> Residues:
    """32 bytes as a row of 16 numbers below 2**16."""
    return np.frombuffer(secret, dtype="<u2").astype(np.int64)[None]


def _secret(numbers: Residues) -> bytes:
    """Undo ``_numbers``. Raises ProtocolError for what is not the numbers of a secret."""
    if (numbers >= 2**16).any():
        raise ProtocolError("the shares of a seed or key restore something else: a share was changed.")
    return numbers.astype("<u2").tobytes()


def _pair_mask(client: int, key: X25519PrivateKey, peer: int, public: bytes, count: int) -> Residues:
    """The mask that ``client`` shares with ``peer``, with the sign that ``client`` adds it with."""
    mask = uniform(count, seed=shared_key(key, public, b"mask"))
    return mask if client < peer else -mask
