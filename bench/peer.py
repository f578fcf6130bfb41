"""The peer library breaching 0.1.2, with its own loop, objectives and optimizers, on our victims.

It is installed in an environment of its own, ``.venv-bench``. Where it is missing everything else still runs, and its
columns say so.
"""

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from bench.clock import Clock, wall
from gilib.data import Batch
from gilib.federated import Update

MISSING = "not installed"
Settings = tuple[str, Sequence[str]]


class Metadata(dict[str, object]):
    """What breaching reads both as keys and as attributes. No mean and no deviation: images stay in [0, 1]."""

    def __getattr__(self, name: str) -> object:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def installed() -> bool:
    """Whether breaching can be imported here."""
    return importlib.util.find_spec("breaching") is not None


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without what breaching warns of and prints."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def attacker(model: nn.Module, settings: Settings, *, iterations: int | None = None) -> Any:
    """The attack of that name with these changes to its default settings, on the model's device.

    Raises RuntimeError where breaching is missing.
    """
    if not installed():
        raise RuntimeError("The comparison needs the peer library breaching. Run it with 'make bench'.")
    name, overrides = settings
    overrides = [*overrides, *([] if iterations is None else [f"optim.max_iterations={iterations}"])]
    setup = {"dtype": torch.float, "device": next(model.parameters()).device}
    with silent():
        import breaching
        from breaching.attacks import prepare_attack

        config = breaching.get_attack_config(name, overrides)
        return prepare_attack(model, nn.CrossEntropyLoss(), config, setup)


def run(attack: Any, model: nn.Module, batch: Batch, update: Update) -> torch.Tensor:
    """Reconstruct one victim: images (1, C, H, W) in [0, 1]."""
    joint = attack.cfg.attack_type == "joint-optimization"
    device = next(model.parameters()).device
    shape = tuple(batch.images.shape[1:])
    metadata = Metadata(shape=shape, modality="vision", task="classification", classes=10)
    payload = [{"parameters": list(model.parameters()), "buffers": list(model.buffers()), "metadata": metadata}]
    labels = None if joint else batch.labels.to(device)
    client = {"num_data_points": 1, "labels": labels, "local_hyperparams": None}
    shared = [{"gradients": list(update.gradients.values()), "buffers": None, "metadata": client}]
    with silent():
        found, _ = attack.reconstruct(payload, shared, {})
    images: torch.Tensor = found["data"].detach().nan_to_num(0.5).clamp(0, 1)
    return images


def timed(attack: Any, model: nn.Module, batch: Batch, update: Update, *, clock: Clock = wall) -> list[float]:
    """When each iteration began, without what breaching does before and after its loop."""
    times: list[float] = []
    begin = type(attack)._compute_objective

    def compute_objective(*arguments: Any) -> Callable[[], torch.Tensor]:
        times.append(clock())
        closure: Callable[[], torch.Tensor] = begin(attack, *arguments)
        return closure

    attack._compute_objective = compute_objective
    run(attack, model, batch, update)
    return times
