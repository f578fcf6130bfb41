"""A round of a real engine: Flower's own strategy, client app and messages. Runs where Flower is installed."""

import pytest
import torch
from torch import nn

from gilib import data, metrics, models
from gilib.federated import LocalTraining
from gilib.recursion import phong

flwr = pytest.importorskip("flwr", reason="Flower has an environment of its own: make interop-tests")

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.serverapp import Grid, ServerApp  # noqa: E402
from flwr.serverapp.strategy import FedAvg, FedMedian  # noqa: E402

from gilib.interop.flower import Auditing  # noqa: E402

DIGITS, RATE, NODES = data.load("digits"), 0.1, 3


def network() -> nn.Module:
    return models.mlp(channels=1, size=8, hidden=(32,))


app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One step of SGD on the client's one digit."""
    model = network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    batch = DIGITS.batch([int(context.node_config["partition-id"])])
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    nn.functional.cross_entropy(model(batch.images), batch.labels).backward()
    optimizer.step()
    metrics_of = MetricRecord({"num-examples": 1})
    return Message(
        content=RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics_of}), reply_to=message
    )


class Local(Grid):
    """Sends messages to client apps of this process, in the place of Flower's network."""

    def __init__(self) -> None:
        self.contexts = {
            node: Context(1, node, {"partition-id": node - 1}, RecordDict(), {}) for node in range(1, NODES + 1)
        }

    def set_run(self, run_id, **more) -> None:
        pass

    @property
    def run(self):
        return None

    def get_node_ids(self):
        return list(self.contexts)

    def create_message(self, *inputs, **more):
        raise NotImplementedError

    def push_messages(self, messages):
        raise NotImplementedError

    def pull_messages(self, message_ids):
        raise NotImplementedError

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in messages:
            message.metadata._run_id = 1
            replies.append(app(message, self.contexts[message.metadata.dst_node_id]))
        return replies


def rounds(strategy, count: int = 2):
    """Run a real server app with the strategy."""
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(network().state_dict()),
            train_config=ConfigRecord({}),
            num_rounds=count,
        )

    try:
        from flwr.supercore.task_identity import TaskIdentity

        for name in ("_run_id", "_node_id", "_task_id"):
            setattr(TaskIdentity, name, 1)
    except ImportError:  # other versions of Flower do not ask who they are
        pass
    server(Local(), Context(1, 0, {}, RecordDict(), {}))
    return strategy


@pytest.mark.parametrize("kind", [FedAvg, FedMedian])
def test_the_curious_server_divides(kind):
    usual = kind(fraction_evaluate=0.0, min_train_nodes=NODES, min_available_nodes=NODES)
    audited = rounds(Auditing(usual))
    assert [one.round for one in audited.kept] == [1, 2]
    assert len({one.node for one in audited.kept}) == 1
    for kept in audited.kept:
        assert kept.examples == 1
        model, update = kept.update(network(), image_shape=(1, 8, 8), local=LocalTraining(learning_rate=RATE))
        truth = DIGITS.batch([kept.node - 1]).images
        assert float(metrics.psnr(phong(model, update).images.clamp(0, 1), truth)) > 60


def test_it_keeps_the_client_that_it_is_asked_for():
    usual = FedAvg(fraction_evaluate=0.0, min_train_nodes=NODES, min_available_nodes=NODES)
    assert {one.node for one in rounds(Auditing(usual, node=2)).kept} == {2}


def test_nothing_changes_for_the_federation():
    options = {"fraction_evaluate": 0.0, "min_train_nodes": NODES, "min_available_nodes": NODES}
    results = []
    for strategy in (FedAvg(**options), Auditing(FedAvg(**options))):
        seen = []
        usual = strategy.aggregate_train

        def watched(number, replies, usual=usual, seen=seen):
            found = usual(number, replies)
            seen.append(found[0].to_torch_state_dict())
            return found

        strategy.aggregate_train = watched
        rounds(strategy)
        results.append(seen)
    for before, after in zip(*results, strict=True):
        for name, value in before.items():  # clients are summed in the order in which they answer
            torch.testing.assert_close(after[name], value)
