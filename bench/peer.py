"""The peer library breaching 0.1.2, with its own loop, objectives and optimizers, on our victims."""

import contextlib
import io
import time
import warnings
from collections.abc import Sequence

import torch
from torch import nn

from gilib.data import Batch
from gilib.federated import Update

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import breaching
        from breaching.attacks import prepare_attack
except ImportError as error:
    raise SystemExit("The benchmark needs the peer library breaching. Run it with 'make bench'.") from error


class Metadata(dict):
    """What breaching reads both as keys and as attributes. No mean and no deviation: images stay in [0, 1]."""

    def __getattr__(self, name: str) -> object:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def attacker(model: nn.Module, settings: tuple[str, Sequence[str]], *, iterations: int | None = None):
    """The attack of that name with these changes to its default settings."""
    name, overrides = settings
    overrides = [*overrides, *([] if iterations is None else [f"optim.max_iterations={iterations}"])]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return prepare_attack(model, nn.CrossEntropyLoss(), breaching.get_attack_config(name, overrides))


def run(attack, model: nn.Module, batch: Batch, update: Update) -> torch.Tensor:
    """Reconstruct one victim: images (1, C, H, W) in [0, 1]."""
    joint = attack.cfg.attack_type == "joint-optimization"
    shape = tuple(batch.images.shape[1:])
    metadata = Metadata(shape=shape, modality="vision", task="classification", classes=10)
    payload = [{"parameters": list(model.parameters()), "buffers": list(model.buffers()), "metadata": metadata}]
    client = {"num_data_points": 1, "labels": None if joint else batch.labels, "local_hyperparams": None}
    shared = [{"gradients": list(update.gradients.values()), "buffers": None, "metadata": client}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, _ = attack.reconstruct(payload, shared, {})
    return found["data"].detach().nan_to_num(0.5).clamp(0, 1)


def timed(attack, model: nn.Module, batch: Batch, update: Update) -> list[float]:
    """When each iteration began, without what breaching does before and after its loop."""
    times: list[float] = []
    begin = type(attack)._compute_objective

    def compute_objective(*arguments):
        times.append(time.perf_counter())
        return begin(attack, *arguments)

    attack._compute_objective = compute_objective
    run(attack, model, batch, update)
    return times
