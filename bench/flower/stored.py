"""What was recorded, read without Flower: ``from bench.flower.stored import stored``."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.flower import task
from bench.flower.federations import Federation
from gilib.interop.kept import Kept

HERE = Path(__file__).parent
Vector = NDArray[Any]


@dataclass(frozen=True)
class Stored:
    """One federation: its ``settings``, its ``model`` as clients received it, and what clients sent.

    ``kept`` holds their weights as lists of arrays in the order of the state dict, ``losses`` what else they reported.
    Under the secure sum the server has ``masked`` vectors (uint32) instead, and ``mean``, a list of arrays.
    """

    settings: Federation
    model: nn.Module
    kept: list[Kept]
    losses: list[float]
    masked: list[Vector]
    mean: list[Vector]


def stored(name: str) -> Stored:
    """The federation of this name. Raises KeyError for a name that was not recorded."""
    found, vectors = about()["federations"][name], _vectors()
    settings, rows = Federation(**found["settings"]), found["rows"]
    model, before = task.network(settings.network), vectors[rows[0]["before"]]
    start = arrays(model, before)
    state = zip(model.state_dict(), start, strict=True)
    model.load_state_dict({name: torch.from_numpy(np.array(one)) for name, one in state})
    kept = [
        Kept(start, arrays(model, restored(before, vectors[row["after"]])), row["node"], 1, row["examples"])
        for row in rows
        if "after" in row
    ]
    masked = [vectors[row["masked"]] for row in rows if "masked" in row]
    mean = arrays(model, vectors[rows[0]["mean"]]) if masked else []
    return Stored(settings, model, kept, [row["loss"] for row in rows], masked, mean)


@cache
def about() -> dict[str, Any]:
    """Everything that is no vector: versions, settings, messages, costs."""
    found: dict[str, Any] = json.loads((HERE / "kept.json").read_text(encoding="utf-8"))
    return found


def arrays(model: nn.Module, vector: Vector) -> list[Vector]:
    """A vector (n,) cut into the arrays of a state dict. Raises ValueError where n is another."""
    state = list(model.state_dict().values())
    sizes = [value.numel() for value in state]
    if sum(sizes) != len(vector):
        raise ValueError(f"expected {sum(sizes)} numbers, as the network has; got {len(vector)}.")
    parts = np.split(vector, np.cumsum(sizes)[:-1])
    return [part.reshape(value.shape).astype(value.numpy().dtype) for part, value in zip(parts, state, strict=True)]


def changed_bits(before: Vector, after: Vector) -> Vector:
    """The difference of the bits of two vectors (n,) of float32, as four rows of bytes (4, n): exact, and shorter."""
    difference = after.view(np.int32) - before.view(np.int32)
    return np.ascontiguousarray(difference.view(np.uint8).reshape(-1, 4).T)


def restored(before: Vector, change: Vector) -> Vector:
    """The vector after, from the one before and `changed_bits`."""
    difference = np.ascontiguousarray(change.T).reshape(-1).view(np.int32)
    return (before.view(np.int32) + difference).view(np.float32)


@cache
def _vectors() -> dict[str, Vector]:
    with np.load(HERE / "kept.npz") as archive:
        return dict(archive)
