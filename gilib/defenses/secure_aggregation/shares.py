"""FastSecAgg and LightSecAgg: clients answer with sums of shares, of the updates themselves or of their masks."""

from collections.abc import Mapping

import numpy as np

from gilib.defenses.aggregation_messages import Agreement, Request, as_bytes, as_residues
from gilib.defenses.aggregation_parties import Member, Server
from gilib.defenses.secret_sharing import PRIME, FastSharing, Residues, Sharing, uniform


class _SharingMember(Member):
    """A client that answers with the sum of the shares that it holds of the members."""

    def _revealed(self, request: Request) -> Residues:
        shares = [as_residues(self._received[client]) for client in request.members]
        total: Residues = np.sum(shares, axis=0) % PRIME
        return total


class FastMember(_SharingMember):
    """A client of FastSecAgg: it cuts its update into pieces and shares them, packed, by FFT. It uploads nothing more.

    It must ``hold`` its update before it shares, and is in the sum from then on, even if it drops out.

    Known as: FastSecAgg (defense). Needs other clients, of whom enough stay to the end.
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

    Known as: LightSecAgg (defense). Needs other clients, of whom enough stay to the end.
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


def _mask_sharing(agreed: Agreement) -> Sharing:
    return Sharing(agreed.clients, agreed.private, agreed.packed)


def _fast_sharing(agreed: Agreement) -> Sharing:
    return FastSharing(agreed.clients, agreed.private, agreed.packed)
