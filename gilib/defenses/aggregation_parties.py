"""The two sides of a round of secure aggregation, as far as all protocols agree: keys, sealed letters, refusals.

Clients (`Member`) and the `Server` exchange the messages of `gilib.defenses.aggregation_messages` and nothing else.
Letters from client to client go through the server, sealed with a key that it does not have: X25519 agrees on the key,
HKDF derives it, and ChaCha20-Poly1305 encrypts and notices every change. The server is *honest but curious*: the keys
that it hands round are the true ones. Against a server that swaps keys, clients would have to sign theirs.

Teaching code, not an audited implementation: nothing here claims to run in constant time. Keys and seeds come from the
operating system and cannot be chosen, because a key that somebody can repeat is no key.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from torch import Tensor

from gilib.defenses.aggregation_messages import (
    Agreement,
    Answer,
    Keys,
    ProtocolError,
    Request,
    Sealed,
    Upload,
    as_bytes,
    as_residues,
)
from gilib.defenses.secret_sharing import Residues

__all__ = ["Member", "Server", "shared_key"]

_NONCE = 12


class Member(ABC):
    """A client in one round. The methods are called in the order in which they stand here, each at most once.

    ``share``, ``upload`` and ``answer`` raise ProtocolError where fewer than ``needed`` clients are left, a letter was
    changed, or it is the second time; ``answer`` also for whatever could open a single update.
    """

    def __init__(self, number: int, agreed: Agreement) -> None:
        self.number, self.agreed = number, agreed
        self._sealing, self._masking = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        self._codes: Residues | None = None
        self._peers: dict[int, Keys] = {}
        self._received: dict[int, bytes] = {}
        self._uploaded = self._answered = False

    def hold(self, values: Tensor) -> None:
        """Take the update (numbers,) of this round. Raises ValueError where a value overflows the codec."""
        self._codes = self.agreed.encode(values)

    def advertise(self) -> Keys:
        """The public keys."""
        return Keys(self.number, *(key.public_key().public_bytes_raw() for key in (self._sealing, self._masking)))

    def share(self, keys: Sequence[Keys]) -> list[Sealed]:
        """Sealed letters to all whose keys the server forwards."""
        if self._peers:
            raise ProtocolError(
                f"client {self.number} has shared in this round already: a second time would reuse secrets."
            )
        self.agreed.check_enough(len(keys), "keys")
        peers = {one.client: one for one in keys}
        known = peers.keys() <= set(range(self.agreed.clients))
        if not known or len(peers) < len(keys) or peers.get(self.number) != self.advertise():
            raise ProtocolError(
                f"client {self.number} expected one pair of keys for each client from 0 to {self.agreed.clients - 1}, "
                f"and its own among them; got those of {[one.client for one in keys]}."
            )
        public = [key for one in keys for key in (one.sealing, one.masking)]
        if len(set(public)) < len(public):  # one party in several places would hold several shares of every secret
            raise ProtocolError(
                f"client {self.number} expected public keys that all differ; got the same key more than once, so "
                "several of its peers may be one."
            )
        self._peers = peers
        letters = self._letters()
        self._received[self.number] = letters.pop(self.number)
        return [Sealed(self.number, peer, self._sealed(peer, letter)) for peer, letter in letters.items()]

    def upload(self, sealed: Sequence[Sealed]) -> Upload:
        """The hidden update, after opening the letters that the server forwards."""
        opened = {one.sender: self._opened(one) for one in sealed}
        self.agreed.check_enough(len(opened | self._received), "letters")
        if self._uploaded:
            raise ProtocolError(f"client {self.number} has uploaded in this round: two uploads have a mask in common.")
        size = len(self._received[self.number])
        if wrong := sorted(sender for sender, letter in opened.items() if len(letter) != size):
            raise ProtocolError(f"letters hold {size} bytes in this round; those of clients {wrong} hold others.")
        self._uploaded, self._received = True, self._received | opened
        return Upload(self.number, as_bytes(self._hidden()))

    def answer(self, request: Request) -> Answer:
        """What the server needs for the sum, and no more; once."""
        self._check_request(request)
        self._answered = True
        return Answer(self.number, as_bytes(self._revealed(request)))

    def _check_request(self, request: Request) -> None:
        self.agreed.check_enough(len(request.members), "updates in the sum")
        if self._answered:
            raise ProtocolError(f"client {self.number} has answered in this round: two answers could open one update.")
        named = [*request.members, *request.dropped]
        if self.number in request.dropped or len(set(named)) < len(named):
            raise ProtocolError(
                f"client {self.number} expected to be a member, and nobody to be named twice; a client that is both a "
                "member and dropped would lose its update."
            )
        unknown = sorted(set(named) - self._received.keys())
        if unknown:
            raise ProtocolError(f"client {self.number} has no letter of clients {unknown}: they are not in this round.")

    @abstractmethod
    def _letters(self) -> dict[int, bytes]:
        """What each of ``_peers`` is to hold, this client included."""

    @abstractmethod
    def _hidden(self) -> Residues:
        """What is uploaded."""

    @abstractmethod
    def _revealed(self, request: Request) -> Residues:
        """What is answered."""

    def _own(self) -> Residues:
        if self._codes is None:
            raise ValueError(f"client {self.number} has no update: call hold(values) first.")
        return self._codes

    def _cipher(self, peer: int) -> ChaCha20Poly1305:
        if peer not in self._peers:
            raise ProtocolError(f"client {self.number} knows no keys of client {peer}.")
        return ChaCha20Poly1305(shared_key(self._sealing, self._peers[peer].sealing, b"letter"))

    def _sealed(self, peer: int, letter: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher(peer).encrypt(nonce, letter, _address(self.number, peer))

    def _opened(self, one: Sealed) -> bytes:
        cipher, nonce, body = self._cipher(one.sender), one.body[:_NONCE], one.body[_NONCE:]
        try:
            return cipher.decrypt(nonce, body, _address(one.sender, self.number))
        except (InvalidTag, ValueError) as error:
            raise ProtocolError(
                f"the letter from client {one.sender} to {self.number} was changed on its way."
            ) from error


class Server(ABC):
    """The server in one round: it forwards, counts, and adds. It raises ProtocolError where too few are left."""

    def __init__(self, agreed: Agreement) -> None:
        self.agreed = agreed
        self._keys: dict[int, Keys] = {}
        self._sharers: list[int] = []
        self._uploads: dict[int, Residues] = {}
        self._request = Request(())

    def forward_keys(self, keys: Sequence[Keys]) -> list[Keys]:
        """What everybody gets: all keys."""
        self.agreed.check_enough(len(keys), "keys")
        self._keys = {one.client: one for one in keys}
        return list(keys)

    def forward(self, letters: Sequence[Sealed]) -> dict[int, list[Sealed]]:
        """The letters, by receiver."""
        self._sharers = sorted({letter.sender for letter in letters})
        self.agreed.check_enough(len(self._sharers), "letters")
        boxes: dict[int, list[Sealed]] = {client: [] for client in self._keys}
        for letter in letters:
            boxes[letter.receiver].append(letter)
        return boxes

    def request(self, uploads: Sequence[Upload]) -> Request:
        """What to ask of those who uploaded."""
        self.agreed.check_enough(len(uploads), "uploads")
        self._uploads = self._bodies(uploads, "uploads")
        self._request = self._asked()
        return self._request

    def total(self, answers: Sequence[Answer]) -> Tensor:
        """The sum (numbers,) of the members' updates, off by at most half a step of the codec for each member.

        Raises ValueError where answers or uploads contradict each other, which is not always noticed.
        """
        self.agreed.check_enough(len(answers), "answers")
        codes = self._sum(self._bodies(answers, "answers"))
        return self.agreed.codec.decode(codes.tolist(), clients=len(self._request.members))

    def _bodies(self, messages: Sequence[Upload | Answer], what: str) -> dict[int, Residues]:
        """What clients sent, by client. Raises ProtocolError unless they shared, sent one each, and equally long."""
        bodies = {one.client: as_residues(one.body) for one in messages}
        shared, lengths = bodies.keys() <= set(self._sharers), {len(body) for body in bodies.values()}
        if not shared or len(bodies) < len(messages) or len(lengths) > 1:
            raise ProtocolError(
                f"{what}: expected one of each client that shared, all of one length; got those of "
                f"{[one.client for one in messages]} with {sorted(lengths)} numbers. Leave out whoever sent others."
            )
        return bodies

    @abstractmethod
    def _asked(self) -> Request: ...

    @abstractmethod
    def _sum(self, answers: Mapping[int, Residues]) -> Residues:
        """The sum of the members' codes."""


def shared_key(own: X25519PrivateKey, theirs: bytes, purpose: bytes) -> bytes:
    """32 bytes that only the two owners of the keys can compute: X25519 and HKDF."""
    agreed = own.exchange(X25519PublicKey.from_public_bytes(theirs))
    return HKDF(SHA256(), 32, salt=None, info=purpose).derive(agreed)


def _address(sender: int, receiver: int) -> bytes:
    return f"{sender} to {receiver}".encode()
