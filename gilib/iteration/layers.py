"""What happens inside the model: the inputs of named layers for a candidate."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gilib.federated import Mode, working_copy


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


def last_layer_input(model: nn.Module, *, mode: Mode) -> Callable[[Tensor], Tensor] | None:
    """A function from images (B, C, H, W) to what enters the last fully connected layer, (B, d).

    None for a model without a fully connected layer. The model is copied.
    """
    names = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    if not names:
        return None
    inputs = layer_inputs(working_copy(model, mode=mode), names[-1:])
    return lambda images: inputs(images)[0]
