"""Batch-norm statistics: what the model carries, what a candidate causes, and what shared buffers give away."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gilib.federated import Update

Statistics = list[tuple[Tensor, Tensor]]


def batch_norm_inputs(model: nn.Module) -> Callable[[Tensor], Statistics]:
    """A function from images (B, C, H, W) to mean and unbiased variance (C,) of what enters each batch-norm layer.

    The network runs as a client in train mode runs it: each batch-norm layer normalizes with the batch itself.
    """
    module = copy.deepcopy(model).train()
    seen: Statistics = []

    def remember(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        axes = [axis for axis in range(inputs[0].ndim) if axis != 1]
        variance, mean = torch.var_mean(inputs[0], dim=axes)
        seen.append((mean, variance))

    for _, layer in _norms(module):
        layer.track_running_stats = False
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
        layer.register_forward_pre_hook(remember)
    parameters = {name: value.detach() for name, value in module.named_parameters()}

    def statistics(images: Tensor) -> Statistics:
        seen.clear()
        torch.func.functional_call(module, parameters, (images,))
        return list(seen)

    return statistics


def running_statistics(model: nn.Module) -> Statistics:
    """The running mean and variance (C,) of each batch-norm layer, in order."""
    return [
        (layer.running_mean, layer.running_var)
        for _, layer in _norms(model)
        if layer.running_mean is not None and layer.running_var is not None
    ]


def shared_statistics(model: nn.Module, updates: Sequence[Update], *, restarts: int) -> Statistics | None:
    """Mean and variance of each victim's own batch, one row a restart: (N, C) each. None where they are not shared.

    After one pass in train mode the buffers are ``(1 - m) old + m batch`` with the layer's momentum m, and the server
    knows the old ones. So the batch's statistics are ``old + (new - old) / m``.
    """
    if any(update.buffers is None or update.mode != "train" for update in updates):
        return None
    found = []
    for name, layer in _norms(model):
        pair = []
        for kind in ("running_mean", "running_var"):
            old = getattr(layer, kind)
            new = torch.stack([(update.buffers or {})[f"{name}.{kind}"] for update in updates]).to(old)
            pair.append((old + (new - old) / layer.momentum).repeat_interleave(restarts, 0))
        found.append((pair[0], pair[1]))
    return found


def _norms(model: nn.Module) -> list[tuple[str, nn.modules.batchnorm._BatchNorm]]:
    return [(name, part) for name, part in model.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
