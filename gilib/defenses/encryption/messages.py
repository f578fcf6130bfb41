"""The message of an encrypted update, and what has to hold before messages are added or opened."""

import hmac
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from gilib.defenses.encryption.fixed_point import unflat
from gilib.defenses.means import agreed
from gilib.federated import Update


@dataclass(frozen=True)
class EncryptedUpdate:
    """The message that leaves a client and that the server holds: ciphertexts, and what is readable beside them.

    ``blocks`` are the ciphertexts as bytes. ``key`` names the public key. ``clients`` counts the updates that were
    added, ``shapes`` are those of the parameters, and ``agreed`` is the update without its gradients; its ``weight`` is
    the mean of the clients' weights.

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

        It covers the ciphertexts, the parameters in their order, and what a client says beside them: samples, weight,
        labels, statistics. Loss and defenses were agreed before. Compare with ``hmac.compare_digest``. Whoever adds
        updates makes a new message, so a tag ends at the server; a message of an earlier round keeps its tag, so that
        every round takes a new ``secret``.
        """
        lengths, said = [len(block) for block in self.blocks], self.agreed
        labels = None if said.labels is None else said.labels.tolist()
        buffers = [(name, value.tolist()) for name, value in (said.buffers or {}).items()]
        clear = (said.batch_size, said.weight, said.image_shape, said.local, said.mode, labels, buffers)
        header = (self.key, self.clients, list(self.shapes.items()), clear, lengths)
        return hmac.digest(secret, repr(header).encode() + b"".join(self.blocks), "sha256")


def message_of(key: str, blocks: Sequence[bytes], update: Update) -> EncryptedUpdate:
    """The message of one client: ciphertexts under the key of this name, and what is readable of its update."""
    shapes = {name: tuple(value.shape) for name, value in update.gradients.items()}
    return EncryptedUpdate(key, tuple(blocks), shapes, replace(update, gradients={}))


def counts(message: EncryptedUpdate, slots: int) -> list[int]:
    """How many numbers each ciphertext holds. Raises ValueError where there are more or fewer ciphertexts."""
    numbers = sum(math.prod(shape) for shape in message.shapes.values())
    counts = [min(slots, numbers - start) for start in range(0, numbers, slots)]
    if len(counts) != len(message.blocks):
        raise ValueError(f"{numbers} numbers take {len(counts)} ciphertexts; the message has {len(message.blocks)}.")
    return counts


def mean_of(message: EncryptedUpdate, sums: Tensor) -> Update:
    """The mean over samples of the updates in a message, from their decrypted sums (D,).

    Raises ValueError where all that was added is weighed by zero.
    """
    total = message.clients * message.agreed.weight
    if total == 0:
        raise ValueError("the updates in the message are weighed by zero: no client in it has samples.")
    return replace(message.agreed, gradients=unflat(sums / total, message.shapes), weight=1.0)


def agreed_of(messages: Sequence[EncryptedUpdate]) -> Update:
    """What is readable of a sum: labels and statistics of single clients are not part of it.

    Raises ValueError for clients that trained differently, or whose weights do not fit their numbers of samples.
    """
    clients = [message.clients for message in messages]
    together = agreed([message.agreed for message in messages], clients=clients)
    weight = sum(message.clients * message.agreed.weight for message in messages) / sum(clients)
    return replace(together, weight=weight)


def check_key(message: EncryptedUpdate, name: str) -> None:
    """Raise ValueError for a message under another key than that of this name."""
    if message.key != name:
        raise ValueError(f"the message is encrypted under {message.key!r}, and this key is {name!r}.")


def check_sum(messages: Sequence[EncryptedUpdate], name: str, room: int) -> int:
    """The number of clients in the sum, or a ValueError that says why there is none."""
    if not messages:
        raise ValueError("expected at least one message to add, got none.")
    for message in messages:
        check_key(message, name)
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
