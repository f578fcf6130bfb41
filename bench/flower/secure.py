"""Rounds under SecAgg+, Flower's secure aggregation, which it has for its older interface of NumPy clients."""

from typing import Any

import numpy as np
import torch
from flwr.app import Context, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray
from torch import nn

from bench.flower import task
from bench.flower.federations import RANGE, WEIGHT, Federation
from bench.flower.here import Here, run

Arrays = list[NDArray[Any]]
MASKED = "masked_params"


class Trains(NumPyClient):
    """A client that exchanges lists of arrays, in the order of the state dict."""

    def __init__(self, client: int, federation: Federation) -> None:
        self.client, self.federation = client, federation

    def fit(self, parameters: Arrays, config: dict[str, Any]) -> tuple[Arrays, int, dict[str, Any]]:
        """Train, and hand back the weights, how many examples they are of, and a metric."""
        settings = self.federation
        model = filled(task.network(settings.network), parameters)
        batch = task.partition(self.client, settings.images, settings.network)
        seed = 100 * self.client + config["server-round"]
        loss = task.train(
            model, batch, epochs=settings.epochs, batch_size=settings.batch_size, lr=settings.lr, seed=seed
        )
        return arrays_of(model), len(batch.labels), {"train_loss": loss}


def secure_rounds(federation: Federation) -> tuple[Here, list[Arrays]]:
    """What the server received, and its network before the first round and after each."""
    seen: list[Arrays] = []
    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_fit_clients=federation.clients,
        min_available_clients=federation.clients,
        initial_parameters=ndarrays_to_parameters(
            arrays_of(task.network(federation.network, trained=federation.trained))
        ),
        evaluate_fn=lambda number, arrays, config: seen.append(arrays),
        on_fit_config_fn=lambda number: {"server-round": number},
    )
    app = ClientApp(
        client_fn=lambda context: Trains(int(context.node_config["partition-id"]), federation).to_client(),
        mods=[secaggplus_mod],
    )
    server, grid = ServerApp(), Here(app, federation.clients)

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        rounds = ServerConfig(num_rounds=federation.rounds)
        protocol = SecAggPlusWorkflow(
            num_shares=federation.clients,
            reconstruction_threshold=federation.clients - 2,
            max_weight=WEIGHT,
            clipping_range=RANGE,
        )
        DefaultWorkflow(fit_workflow=protocol)(grid, LegacyContext(context, config=rounds, strategy=strategy))

    run(server, grid)
    return grid, seen


def uploads(grid: Here) -> dict[int, RecordDict]:
    """What each client uploaded in the first round, under its masks and beside them, by its number."""
    found: dict[int, RecordDict] = {}
    for reply in grid.replies:
        if MASKED in reply.content["secaggplus_configs"]:
            found.setdefault(reply.metadata.src_node_id, reply.content)
    return found


def masked(upload: RecordDict) -> NDArray[np.uint32]:
    """The masked weights as one vector of numbers below 2**32; the first one hides how many examples there are."""
    parts = [bytes_to_ndarray(part).reshape(-1) for part in upload["secaggplus_configs"][MASKED]]
    return np.concatenate(parts).astype(np.uint32)


def arrays_of(model: nn.Module) -> Arrays:
    """The state dict as Flower's NumPy clients send it."""
    return [value.numpy() for value in model.state_dict().values()]


def filled(model: nn.Module, arrays: Arrays) -> nn.Module:
    """The model, with these weights in it."""
    model.load_state_dict({name: torch.as_tensor(one) for name, one in zip(model.state_dict(), arrays, strict=True)})
    return model
