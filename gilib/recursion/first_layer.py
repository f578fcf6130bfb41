"""The equations of a first layer that is fully connected and followed by ReLU, and the factors of its gradient."""

import math
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.chain import check_hooks, opening
from gilib.federated import Update, checked_logits, seeded_generator
from gilib.recursion.door import (
    check_linear,
    check_numbers,
    check_plain,
    check_precise,
    double_model,
    on_cpu,
    rounding_of,
    shared,
)


@dataclass(frozen=True)
class System:
    """What the server has: the layer, its gradients, and a factorisation ``gradient = left @ right``, all in float64.

    ``noise`` is the standard deviation of an entry of the gradient beside the factorisation. ``exact`` is what a true
    sample may at most leak through neurons that it switches off: rounding, not data.
    """

    name: str
    weight: Tensor
    bias: Tensor
    gradient: Tensor
    bias_gradient: Tensor
    left: Tensor
    right: Tensor
    noise: float
    exact: float

    @property
    def rounding(self) -> float:
        """Entries of ``left`` times a unit vector that are below this are zero up to rounding."""
        return 1e-9 * float(self.left.norm(dim=0).max())

    @property
    def tolerance(self) -> float:
        """Below this they count as zero: rounding, or three standard deviations of whatever noise there is."""
        return max(self.rounding, 3 * self.noise)


def first_to_run(working: nn.Module, image_shape: tuple[int, ...]) -> tuple[str, nn.Module, Tensor, Tensor]:
    """The first layer with parameters that runs: its name, the layer, what enters it, and the probe image."""
    probe = torch.rand(1, *image_shape, generator=seeded_generator(0), dtype=torch.float64, device="cpu")
    found: list[tuple[str, nn.Module, Tensor]] = []

    def note(name: str, layer: nn.Module, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            found.append((name, layer, inputs[0].clone()))

    hooks = [
        part.register_forward_pre_hook(lambda layer, inputs, name=name: note(name, layer, inputs))
        for name, part in working.named_modules()
        if any(True for _ in part.parameters(recurse=False))
    ]
    with torch.no_grad():
        checked_logits(lambda _, images: working(images), {}, probe)
    for hook in hooks:
        hook.remove()
    if not found:
        raise ValueError("the model has no layer with parameters that takes one tensor: there is nothing to divide.")
    return *found[0], probe


def system_of(model: nn.Module, update: Update) -> System:
    """The equations of the first layer. Raises ValueError as ``spear`` does."""
    check_numbers(update)
    check_linear(update)
    check_precise(update)
    working = double_model(model)
    name, layer = _first_layer(working, update.image_shape)
    prefix = "" if layer is working else f"{name}."
    if not {f"{prefix}weight", f"{prefix}bias"} & update.gradients.keys():
        raise ValueError(f"expected gradients of {prefix}weight and {prefix}bias, got {sorted(update.gradients)}.")
    gradient = on_cpu(shared(update, model, f"{prefix}weight"))
    bias_gradient = on_cpu(shared(update, model, f"{prefix}bias"))
    if not gradient.any():
        raise ValueError(f"expected a finite gradient of layer {name!r} that is not zero: there is nothing to recover.")
    if gradient.shape[1] != math.prod(update.image_shape):
        raise ValueError(
            f"layer {name!r} sees {gradient.shape[1]} numbers and not the {math.prod(update.image_shape)} pixels of an "
            "image as they are. Flatten the image before it."
        )
    batch = update.batch_size
    if batch > min(gradient.shape):
        raise ValueError(
            f"layer {name!r} maps {gradient.shape[1]} inputs to {gradient.shape[0]} neurons; a batch of {batch} needs "
            f"at least {batch} of both. Attack a smaller batch or a wider layer."
        )
    rounding = rounding_of(update)
    _, sizes, directions = torch.linalg.svd(gradient, full_matrices=False)
    rank = int((sizes[:batch] > max(1e-10, 4 * rounding) * sizes[0]).sum())
    rest = (gradient.shape[0] - batch) * (gradient.shape[1] - batch)
    noise = float(sizes[batch:].norm()) / max(rest, 1) ** 0.5
    right, exact = directions[:rank], max(1e-6, 100 * rounding)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    return System(name, weight, bias, gradient, bias_gradient, gradient @ right.T, right, noise, min(exact, 1e-3))


def _first_layer(model: nn.Module, image_shape: tuple[int, ...]) -> tuple[str, nn.Linear]:
    """The name of the first layer and the layer, or a ValueError that names what does not fit."""
    check_hooks(model, image_shape)
    parts: list[tuple[str, nn.Module]] = []
    with suppress(ValueError):  # what cannot be traced can still be run
        parts = [part for part in opening(model) if not isinstance(part[1], nn.Flatten | nn.Unflatten | nn.Identity)]
    if not parts:
        name, first, seen, probe = first_to_run(model, image_shape)
        if isinstance(first, nn.Linear) and not torch.equal(seen.flatten(), probe.flatten()):
            raise ValueError(
                f"layer {name!r} does not see the pixels as they are: a step before it changes them. Attack the model "
                "without that step, and undo it in the result."
            )
        cut = isinstance(first, nn.Linear) and _is_cut(model, first, image_shape)
        parts = [(name, first), ("a function", nn.ReLU() if cut else nn.Identity())]
    (name, first), (after, activation) = (*parts, ("nothing", nn.Identity()))[:2]
    if not isinstance(first, nn.Linear):
        raise ValueError(
            f"expected a fully connected first layer (Linear), got {name!r} ({type(first).__name__}). A gradient that "
            "is summed over positions has more than B terms."
        )
    check_plain(name, first)
    if first.bias is None:
        raise ValueError(f"layer {name!r} has no bias: without its gradient the scale of the samples stays unknown.")
    if not isinstance(activation, nn.ReLU):
        raise ValueError(
            f"expected ReLU after layer {name!r}, got {after!r} ({type(activation).__name__}). Only ReLU leaves exact "
            "zeros in the gradient, and the zeros are what separates the samples."
        )
    return name, first


def _is_cut(model: nn.Module, layer: nn.Module, image_shape: tuple[int, ...]) -> bool:
    """Whether outputs of a layer below zero, and only those, have no influence on the logits: a ReLU follows it."""
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, inputs, output: seen.append(output))
    images = torch.rand(8, *image_shape, generator=seeded_generator(1), dtype=torch.float64, device="cpu")
    with torch.enable_grad():
        logits = checked_logits(lambda _, value: model(value), {}, images.requires_grad_())
        weights = torch.rand(logits.shape, generator=seeded_generator(2), dtype=torch.float64, device="cpu")
        (slope,) = torch.autograd.grad((logits * weights).sum(), seen[0], materialize_grads=True)
    hook.remove()
    awake = seen[0] > 0
    return not bool(slope[~awake].any()) and bool(slope[awake].any())
