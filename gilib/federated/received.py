"""Updates that other engines made: their names, shapes and numbers checked against the model they are said to fit."""

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Named = dict[str, Tensor]


def gradients(model: nn.Module, source: Mapping[str, Tensor] | Sequence[Tensor] | str | PathLike[str]) -> Named:
    """The gradients of the trainable parameters by name: see ``Update.from_gradients``."""
    given: Any = _loaded(Path(fspath(source))) if isinstance(source, str | PathLike) else source
    expected = trainable(model)
    if isinstance(given, Mapping):
        found = dict(given)
    elif isinstance(given, Sequence):
        found = _in_order(model, [value for value in given if value is not None])
    else:
        raise ValueError(
            f"expected gradients as a dictionary, a list or the path of a file; got {type(given).__name__}. Use "
            "{name: p.grad for name, p in model.named_parameters()}."
        )
    found = {name: value for name, value in found.items() if value is not None}
    _check_names(found, expected, set(_parameters(model)) - set(expected), _buffers(model), "gradients")
    return {name: _tensor(found[name], expected[name], f"gradient {name!r}") for name in expected}


def change(
    model: nn.Module, before: Mapping[str, Tensor], after: Mapping[str, Tensor], *, rate: float
) -> tuple[Named, Named, float]:
    """The gradients that a parameter change stands for, the buffers after it, and its relative rounding error."""
    expected, buffers = _parameters(model), _buffers(model)
    for what, given in (("before", before), ("after", after)):
        if not isinstance(given, Mapping):
            raise ValueError(f"expected {what} as a state dict; got {type(given).__name__}. Use model.state_dict().")
        present = {name: value for name, value in given.items() if name not in buffers}
        _check_names(present, expected, set(), {}, what)
    start = {name: _tensor(before[name], value, f"{name!r} before") for name, value in expected.items()}
    end = {name: _tensor(after[name], value, f"{name!r} after") for name, value in expected.items()}
    _check_model(expected, start)
    moved = [name for name, value in expected.items() if not value.requires_grad and not start[name].equal(end[name])]
    if moved:
        raise ValueError(
            f"{moved[0]!r} is frozen in the model and has changed: call requires_grad_() as the client did."
        )
    learned = trainable(model)
    found = {name: (start[name].double() - end[name].double()) / rate for name in learned}
    size = _norm(found.values())
    if not size > 0:
        raise ValueError("no trainable weight has changed, so there is nothing to attack: is after the state before?")
    grid = _norm([torch.finfo(end[name].dtype).eps * end[name].double() for name in learned]) / rate / 2
    left = {name: _tensor(after[name], value, f"{name!r} after") for name, value in buffers.items() if name in after}
    return {name: value.to(learned[name].dtype) for name, value in found.items()}, left, grid / size


def named(model: nn.Module, arrays: Sequence[NDArray[Any]], what: str) -> Named:
    """Arrays in the order of ``model.state_dict()`` by name; where only parameters came, in theirs."""
    if isinstance(arrays, Mapping) or not isinstance(arrays, Sequence):
        raise ValueError(f"expected {what} as a list of arrays; got {type(arrays).__name__}. Use from_state_dicts.")
    state = list(model.state_dict())
    names = state if len(arrays) == len(state) else list(_parameters(model))
    if len(arrays) != len(names):
        raise ValueError(
            f"expected {what} as {len(state)} arrays in the order of model.state_dict(), or the {len(names)} "
            f"parameters alone; got {len(arrays)}."
        )
    return {name: torch.from_numpy(np.array(array)) for name, array in zip(names, arrays, strict=True)}


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of which a client shares gradients."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters())


def _buffers(model: nn.Module) -> Named:
    return dict(model.named_buffers())


def _loaded(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"expected a file of gradients at {path}, found none. Store one with torch.save.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage makes it raise
        raise ValueError(
            f"{path} is no file of tensors that torch.save stored ({str(error).strip().splitlines()[0][:120]})."
        ) from error


def _in_order(model: nn.Module, values: list[Tensor]) -> Named:
    everything, learned = _parameters(model), trainable(model)
    names = list(learned) if len(values) == len(learned) else list(everything)
    if len(values) != len(names):
        raise ValueError(
            f"expected {len(learned)} gradients, one for each trainable parameter in the order of "
            f"model.named_parameters(); got {len(values)}."
        )
    return {name: value for name, value in zip(names, values, strict=True) if name in learned}


def _check_names(
    found: Mapping[str, Any], expected: Mapping[str, Any], frozen: set[str], buffers: Named, what: str
) -> None:
    extra, missing = [name for name in found if name not in expected], [name for name in expected if name not in found]
    if not extra and not missing:
        return
    hint = "Pass the model that the client trained."
    if any(name in buffers for name in extra):
        hint = "Buffers of the model have no gradient: for a whole state dict use from_state_dicts."
    elif any(name in frozen for name in extra):
        hint = "That parameter is frozen in the model: call requires_grad_() as the client did, or leave it out."
    elif any(_wrapped(name) in expected for name in extra):
        hint = "The names carry a wrapper's prefix ('module.' or '_orig_mod.'): strip it, or pass the wrapped model."
    elif missing and not extra:
        hint = "Freeze in the model what the client froze: requires_grad_(False)."
    raise ValueError(
        f"{what} do not fit the model: {_some('not in the model', extra)}{_some('missing', missing)}"
        f"expected {len(expected)} names such as {next(iter(expected), 'none')!r}. {hint}"
    )


def _some(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{kind} {', '.join(map(repr, names[:3]))}{more}; " if names else ""


def _wrapped(name: str) -> str:
    return name.removeprefix("module.").removeprefix("_orig_mod.")


def _tensor(value: Any, like: Tensor, what: str) -> Tensor:
    """A finite tensor of the shape of ``like`` and on its device."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.array(value))
    if not isinstance(value, Tensor):
        raise ValueError(f"expected {what} as a tensor; got {type(value).__name__}.")
    if value.shape != like.shape:
        raise ValueError(
            f"expected {what} of shape {tuple(like.shape)}, as in the model; got {tuple(value.shape)}. Is this the "
            "model that the client trained?"
        )
    if like.is_floating_point() and not value.is_floating_point():
        raise ValueError(f"expected {what} as floating-point numbers; got {value.dtype}. Undo the compression first.")
    if not value.isfinite().all():
        raise ValueError(f"{what} holds NaN or infinite numbers; nothing can be matched to them.")
    return value.detach().to(like.device).clone()


def _check_model(expected: Mapping[str, Tensor], start: Named) -> None:
    """The attack computes with the model's weights: they must be those that the client received."""
    for name, value in expected.items():
        own = value.detach().double()
        gap = (own - start[name].double()).abs().max() if own.numel() else own.new_zeros(())
        if gap > 1e-2 * max(float(own.abs().max()) if own.numel() else 0.0, 1e-6):
            raise ValueError(
                f"the weights of the model are not those before the training: {name!r} differs by {float(gap):.3g}. "
                "Call model.load_state_dict(before) first."
            )


def _norm(values: Any) -> float:
    return float(torch.stack([value.double().square().sum().cpu() for value in values]).sum().sqrt())
