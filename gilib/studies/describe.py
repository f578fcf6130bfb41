"""Canonical descriptions of settings, from which the key of a result is made."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def describe(value: object) -> Any:
    """``value`` as JSON data that is the same in every process: the settings of an attack, a defense or a network.

    A dataclass becomes its name and fields, a function or class its full name, a tensor its shape and a digest, a
    network its layers and a digest of its weights. What a function *does* is not seen: rename it when its meaning
    changes. Raises TypeError for other objects that do not print as their settings.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return ["Tensor", list(value.shape), _digest(value)]
    if isinstance(value, nn.Module):
        return [str(value), *(_digest(part) for part in value.state_dict().values())]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"is": type(value).__qualname__, **fields}
    if isinstance(value, partial):
        return [describe(value.func), describe(value.args), describe(value.keywords)]
    if isinstance(value, Mapping):
        return {str(key): describe(part) for key, part in value.items()}
    if isinstance(value, Sequence):
        return [describe(part) for part in value]
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return _printed(value)


def key(settings: object) -> str:
    """Sixteen hexadecimal digits that change whenever the description of ``settings`` does."""
    text = json.dumps(describe(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digest(value: Tensor) -> str:
    raw = value.detach().cpu().reshape(-1).contiguous().view(torch.uint8)
    return hashlib.sha256(raw.numpy().tobytes()).hexdigest()[:16]


def _printed(value: object) -> str:
    text = repr(value)
    if " at 0x" in text or " object at " in text:
        raise TypeError(
            f"expected settings that print as what they are, got {text}, whose address differs from run to run. "
            "Make it a frozen dataclass."
        )
    return text
