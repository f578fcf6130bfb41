"""The protocols by name, and one round of any of them on this machine, with its clock and its scales."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

from gilib.defenses.aggregation_messages import Agreement, Message, as_residues
from gilib.defenses.aggregation_parties import Member, Server
from gilib.defenses.secret_sharing import Residues
from gilib.defenses.secure_aggregation.masking import MaskingMember, MaskingServer
from gilib.defenses.secure_aggregation.shares import FastMember, FastServer, LightMember, LightServer

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_Sent = TypeVar("_Sent", bound=Message | Sequence[Message])
_MESSAGES = ("share", "upload", "answer")


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
