"""What happens inside the model: the inputs of named layers for a candidate."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gilib.chain import last_linear
from gilib.federated import Head, Mode, working_copy


def layer_inputs(module: nn.Module, names: Sequence[str]) -> Callable[[Tensor], list[Tensor]]:
    """A function from images (B, C, H, W) to what enters each of the layers ``names``, in order of execution.

    ``module`` belongs to the function from now on (pass a copy): it gets hooks. Differentiable in the images, and safe
    under ``torch.func.vmap``. Raises ValueError for a name that the module lacks.
    """
    layers = dict(module.named_modules())
    missing = [name for name in names if name not in layers]
    if missing:
        raise ValueError(f"the model has no layer {missing[0]!r}; it has {', '.join(filter(None, layers))}.")
    seen: list[Tensor] = []

    def remember(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    for name in names:
        layers[name].register_forward_pre_hook(remember)
    parameters = {name: value.detach() for name, value in module.named_parameters()}

    def inputs_of(images: Tensor) -> list[Tensor]:
        seen.clear()
        if names:
            torch.func.functional_call(module, parameters, (images,))
        return list(seen)

    return inputs_of


def last_layer_input(model: nn.Module, *, mode: Mode, head: Head | None = None) -> Callable[[Tensor], Tensor] | None:
    """A function from images (B, C, H, W) to what enters the last fully connected layer, (B, d).

    That is the layer of ``head``, where it is known, and otherwise the one that the model's graph ends in. None for a
    model without. The model is copied.
    """
    try:
        name = (head.weight or "").rpartition(".")[0] if head is not None else last_linear(model)
    except ValueError:
        return None
    if not isinstance(dict(model.named_modules()).get(name), nn.Linear):
        return None
    inputs = layer_inputs(working_copy(model, mode=mode), [name])
    return lambda images: inputs(images)[0]
