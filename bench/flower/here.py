"""Carries messages between a server app and client apps of this process, in the place of Flower's network.

Every message becomes the bytes that Flower sends, and a message again: what arrives is a copy.
"""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid, ServerApp


class Here(Grid):
    """Clients 1 to ``clients``; client n owns partition n - 1.

    ``replies`` are all messages that came back, ``sizes`` their bytes, ``request`` what the first one sent out holds.
    """

    def __init__(self, app: ClientApp, clients: int) -> None:
        self.app = app
        self.contexts = {
            node: Context(1, node, {"partition-id": node - 1}, RecordDict(), {}) for node in range(1, clients + 1)
        }
        self.replies: list[Message] = []
        self.sizes: list[int] = []
        self.request: list[dict[str, Any]] = []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Answers of the clients, one after another."""
        answers = []
        for message in messages:
            message.metadata.__dict__["_run_id"] = 1
            arrived, _ = carried(message)
            self.request = self.request or held(arrived.content)
            answer, size = carried(self.app(arrived, self.contexts[message.metadata.dst_node_id]))
            self.sizes.append(size)
            answers.append(answer)
        self.replies += answers
        return answers

    def get_node_ids(self) -> list[int]:
        """The clients' numbers."""
        return list(self.contexts)

    def set_run(self, run: Any, **more: Any) -> None:
        """There is one run."""

    @property
    def run(self) -> Any:
        """The engine's record of the run, of which only the number is asked for."""
        return SimpleNamespace(run_id=1)

    def create_message(self, *inputs: Any, **more: Any) -> Message:
        """Not part of Flower's current interface."""
        raise NotImplementedError("build flwr.app.Message instead.")

    def push_messages(self, messages: Iterable[Message]) -> Sequence[str]:
        """Messages without waiting for their answers: no strategy does that."""
        raise NotImplementedError("use send_and_receive.")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Late answers: there are none."""
        raise NotImplementedError("use send_and_receive.")


def carried(message: Message) -> tuple[Message, int]:
    """A copy of a message by way of its bytes, and how many those are."""
    sent = message_to_proto(message).SerializeToString()
    return message_from_proto(ProtoMessage.FromString(sent)), len(sent)


def held(content: RecordDict) -> list[dict[str, Any]]:
    """The records of a message: their names, their kinds, and their entries, arrays by their shape and type."""
    found = []
    for name, record in content.items():
        arrays = isinstance(record, ArrayRecord)
        entries = {key: [list(one.shape), one.dtype] if arrays else one for key, one in record.items()}
        found.append({"record": name, "kind": type(record).__name__, "entries": entries})
    return found


def run(server: ServerApp, grid: Here) -> None:
    """Run a server app with these clients."""
    _say_who_we_are()
    server(grid, Context(1, 0, {}, RecordDict(), {}))


def _say_who_we_are() -> None:
    try:
        from flwr.supercore.task_identity import TaskIdentity
    except ImportError:  # other versions of Flower do not ask
        return
    for name in ("_run_id", "_node_id", "_task_id"):
        setattr(TaskIdentity, name, 1)
