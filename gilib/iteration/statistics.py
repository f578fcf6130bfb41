"""Batch-norm statistics: what the model carries, what a candidate causes, and what shared buffers give away."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gilib.federated import Update, copied, use_batch_statistics
from gilib.iteration.layers import layer_inputs

Statistics = list[tuple[Tensor, Tensor]]


def batch_norm_inputs(model: nn.Module) -> Callable[[Tensor], Statistics]:
    """A function from images (B, C, H, W) to mean and unbiased variance (C,) of what enters each batch-norm layer.

    Each batch-norm layer normalizes with the batch itself, as it does for a client in train mode. Other layers work in
    eval mode: nothing is drawn.
    """
    names = [name for name, _ in _norms(model)]
    module = copied(model).eval()
    use_batch_statistics(module)
    inputs = layer_inputs(module, names)

    def statistics(images: Tensor) -> Statistics:
        found = []
        for entered in inputs(images):
            variance, mean = torch.var_mean(entered, dim=[axis for axis in range(entered.ndim) if axis != 1])
            found.append((mean, variance))
        return found

    return statistics


def running_statistics(model: nn.Module) -> Statistics:
    """The running mean and variance (C,) of each batch-norm layer, in order. Layers that keep none are left out."""
    return [
        (layer.running_mean, layer.running_var)
        for _, layer in _norms(model)
        if layer.running_mean is not None and layer.running_var is not None
    ]


def shared_statistics(model: nn.Module, updates: Sequence[Update], *, restarts: int) -> Statistics | None:
    """Mean and variance of each victim's own batch, one row a restart: (N, C) each. None where they are not shared.

    After one pass in train mode the buffers are ``(1 - m) old + m batch`` with the layer's momentum m, and the server
    knows the old ones. So the batch's statistics are ``old + (new - old) / m``. Raises ValueError for a layer that
    keeps no running statistics, or keeps their plain average (momentum None).
    """
    if any(update.buffers is None or update.mode != "train" for update in updates):
        return None
    steps = max(update.local.count(update.batch_size) for update in updates)
    if steps > 1:
        raise ValueError(
            f"the statistics of the victim's batch cannot be read off its buffers after {steps} local steps, each of "
            "which moved them. Use batch_statistics(shared=False)."
        )
    found = []
    for name, layer in _norms(model):
        if layer.momentum is None or layer.running_mean is None:
            raise ValueError(
                f"the statistics of the victim's batch cannot be read off layer {name!r}: it keeps "
                f"{'no running statistics' if layer.running_mean is None else 'their plain average (momentum None)'}. "
                "Use batch_statistics(shared=False)."
            )
        pair = []
        for kind in ("running_mean", "running_var"):
            old = getattr(layer, kind)
            new = torch.stack([(update.buffers or {})[f"{name}.{kind}"] for update in updates]).to(old)
            pair.append((old + (new - old) / layer.momentum).repeat_interleave(restarts, 0))
        found.append((pair[0], pair[1]))
    return found


def _norms(model: nn.Module) -> list[tuple[str, nn.modules.batchnorm._BatchNorm]]:
    return [(name, part) for name, part in model.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
