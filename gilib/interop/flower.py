"""The curious server of a Flower federation: a strategy like any other, which keeps what one client sent.

It works with Flower's message API (``flwr.serverapp.strategy``). Flower is no dependency of this library; this module
needs it, and says so.
"""

from collections.abc import Iterable
from typing import Any

from gilib.interop.kept import Kept, Weights

try:
    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Strategy
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("gilib.interop.flower needs Flower: pip install flwr.") from error

__all__ = ["Auditing", "Kept"]


class Auditing(Strategy):
    """Works as ``strategy`` does, and keeps what one client received and sent in every round, in ``kept``.

    ``node`` is the client's number in Flower; unless given, the first that answers is kept, and only it from then on.
    ``kept`` are the rounds in order, each a `Kept`. Nothing that clients receive changes: the server is honest, and
    curious. ``examples`` is the metric by which clients say how many samples they trained on.

    Known as: Flower (tool). Needs to be the server, or the strategy that it runs. Taught in: practice/flower.
    """

    def __init__(self, strategy: Strategy, *, node: int | None = None, examples: str = "num-examples") -> None:
        self.strategy, self.node, self.examples = strategy, node, examples
        self.kept: list[Kept] = []
        self._sent: dict[int, Weights] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """What the strategy sends; a copy of the weights stays here."""
        asked = self.strategy.configure_train(server_round, arrays, config, grid)
        messages = list(asked)
        self._sent = {one.metadata.dst_node_id: _weights(one) for one in messages}
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What the strategy makes of the replies; that of one client stays here."""
        replies = list(replies)
        for reply in replies:
            node = reply.metadata.src_node_id
            fits = node in self._sent and self.node in (None, node)
            if fits and not reply.has_error():
                self.node = node
                after, count = _weights(reply), _examples(reply, self.examples)
                one = Kept(self._sent[node], after, node, server_round, count)
                self.kept.append(one)
                break
        found: tuple[ArrayRecord | None, MetricRecord | None]
        found = self.strategy.aggregate_train(server_round, replies)
        return found

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """What the strategy does."""
        messages: Iterable[Message] = self.strategy.configure_evaluate(server_round, arrays, config, grid)
        return messages

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """What the strategy does."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """What the strategy says of itself."""
        self.strategy.summary()


def _weights(message: Message) -> Weights:
    """The first record of arrays in a message: a state dict, or a list of arrays where names are only numbers."""
    records = [record for record in message.content.values() if isinstance(record, ArrayRecord)]
    if not records:
        raise ValueError("a message of the training holds no record of arrays: nothing can be kept of it.")
    record: Any = records[0]
    if all(name.isdigit() for name in record):
        return list(record.to_numpy_ndarrays())
    return {name: value.detach().clone() for name, value in record.to_torch_state_dict().items()}


def _examples(message: Message, name: str) -> int | None:
    for record in message.content.values():
        if isinstance(record, MetricRecord) and name in record:
            return int(record[name])
    return None
