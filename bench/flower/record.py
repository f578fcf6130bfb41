"""Run the federations and collect what their servers kept."""

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
from flwr.clientapp.typing import Mod
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    Strategy,
)
from numpy.typing import NDArray
from torch import nn

from bench.flower import secure, task
from bench.flower.client_app import client_app
from bench.flower.federations import CLIP, DELTA, EPSILON, SERVER_NOISE, Federation
from bench.flower.here import Here, held, run
from bench.flower.server_app import server_app, watched

Vector = NDArray[Any]


@dataclass
class Recorded:
    """What one federation left: ``rows`` with vectors of weights, its network at the end, and what clients sent.

    ``bytes`` are those that a client sent in a round, ``messages`` what a message of the training and its answer hold.
    """

    rows: list[dict[str, Any]]
    last: nn.Module
    bytes: int
    messages: list[list[dict[str, Any]]] = field(default_factory=list)


def recorded(federation: Federation) -> Recorded:
    """Run a federation and keep what its settings say. Sets the global seeds of Python and NumPy, which Flower uses."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    return _secure(federation) if federation.defense == "secure sum" else _usual(federation)


def _usual(federation: Federation) -> Recorded:
    seen: list[ArrayRecord] = []
    grid = Here(client_app(_mods(federation)), federation.clients)
    watchers = watched(_strategy(federation), range(1, federation.watched + 1))
    strategy = watchers[-1] if watchers else _strategy(federation)
    run(server_app(strategy, federation.config(), federation.rounds, lambda number, arrays: seen.append(arrays)), grid)
    losses = {reply.metadata.src_node_id: reply.content["metrics"]["train_loss"] for reply in grid.replies}
    rows = [
        {
            "node": kept.node,
            "examples": kept.examples,
            "loss": losses[kept.node],
            "before": flat([value.numpy() for value in kept.before.values()]),
            "after": flat([value.numpy() for value in kept.after.values()]),
        }
        for watcher in watchers
        for kept in watcher.kept
    ]
    last = secure.filled(task.network(federation.network), seen[-1].to_numpy_ndarrays())
    return Recorded(rows, last, grid.sizes[0], [grid.request, held(grid.replies[0].content)])


def _secure(federation: Federation) -> Recorded:
    grid, seen = secure.secure_rounds(federation)
    rows = [
        {
            "node": node,
            "examples": upload["fitres.num_examples"]["num_examples"],
            "loss": upload["fitres.metrics"]["train_loss"],
            "before": flat(seen[0]),
            "masked": secure.masked(upload),
            "mean": flat(seen[1]).astype(np.float32),
        }
        for node, upload in secure.uploads(grid).items()
        if node <= federation.watched
    ]
    last = secure.filled(task.network(federation.network), seen[-1])
    return Recorded(rows, last, sum(grid.sizes) // federation.clients // federation.rounds)


def _mods(federation: Federation) -> list[Mod]:
    if federation.defense == "client clips":
        return [fixedclipping_mod]
    return [LocalDpMod(CLIP, CLIP, EPSILON, DELTA)] if federation.defense == "local noise" else []


def _strategy(federation: Federation) -> Strategy:
    clients = federation.clients
    plain = FedAvg(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
    if federation.defense == "server clips":
        return DifferentialPrivacyServerSideFixedClipping(plain, SERVER_NOISE, CLIP, clients)
    if federation.defense == "client clips":
        return DifferentialPrivacyClientSideFixedClipping(plain, SERVER_NOISE, CLIP, clients)
    return plain


def flat(arrays: list[Vector]) -> Vector:
    """A list of arrays as one vector."""
    return np.concatenate([np.asarray(array).reshape(-1) for array in arrays]).astype(np.float32)
