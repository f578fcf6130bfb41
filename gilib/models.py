"""The networks that clients train, with weights that are the same on every machine.

Every model is a plain ``torch.nn.Sequential`` of named layers: it takes images ``(B, C, H, W)`` and returns logits
``(B, classes)``. The weights come from one float64 ``torch.Generator``, whose ``rand`` does not depend on the CPU, and
are then stored in float32; use ``model.double()`` to compute in float64. Building a model never touches the global
random state.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

__all__ = ["ACTIVATIONS", "convnet", "lenet", "mlp"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}


def lenet(
    classes: int = 10, *, channels: int = 3, size: int = 32, activation: str = "sigmoid", seed: int = 0
) -> nn.Sequential:
    """The LeNet of Deep Leakage from Gradients: three 5 x 5 convolutions with 12 channels, then one linear layer.

    The strides are 2, 2, 1, so the linear layer sees a quarter of the resolution. Takes images
    ``(B, channels, size, size)``. All weights and biases are uniform in [-0.5, 0.5], far wider than PyTorch's default.
    `activation` is one of `ACTIVATIONS`. Raises ValueError for an unknown activation or a size below one.

    Source: Zhu, Liu & Han (2019), sec. 4.1 and the authors' code. Taught in: foundations/first_leak.
    """
    _check_sizes(classes=classes, channels=channels, size=size)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    side = size
    for index, (width, stride) in enumerate(((channels, 2), (12, 2), (12, 1)), start=1):
        layers[f"conv{index}"] = _convolution(width, 12, kernel=5, stride=stride)
        layers[f"activation{index}"] = _activation(activation)
        side = math.ceil(side / stride)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = _linear(12 * side * side, classes)
    return _draw(nn.Sequential(layers), seed=seed, bound=0.5)


def mlp(
    classes: int = 10,
    *,
    channels: int = 3,
    size: int = 32,
    hidden: Sequence[int] = (256,),
    activation: str = "relu",
    seed: int = 0,
) -> nn.Sequential:
    """A fully connected network: flatten, then one linear layer for each entry of `hidden`, then the logits.

    Takes images ``(B, channels, size, size)``. ``hidden=()`` gives a single linear layer. Weights and biases are
    uniform in ``±1/sqrt(fan_in)``, PyTorch's default distribution. Raises ValueError for an unknown activation or a
    size below one.
    """
    _check_sizes(classes=classes, channels=channels, size=size, **{f"hidden[{i}]": w for i, w in enumerate(hidden)})
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    widths = (channels * size * size, *hidden)
    for index, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        layers[f"linear{index}"] = _linear(inputs, outputs)
        layers[f"activation{index}"] = _activation(activation)
    layers["linear"] = _linear(widths[-1], classes)
    return _draw(nn.Sequential(layers), seed=seed)


def convnet(
    classes: int = 10,
    *,
    channels: int = 3,
    size: int = 32,
    widths: Sequence[int] = (32, 64, 64, 128),
    activation: str = "relu",
    norm: str | None = None,
    seed: int = 0,
) -> nn.Sequential:
    """A strided convolutional network: 3 x 3 convolutions, every second one with stride 2, then one linear layer.

    Takes images ``(B, channels, size, size)``. There is no pooling. ``norm="batch"`` puts batch normalization before
    each activation; the convolutions then have no bias, which the normalization would cancel. Weights and biases are
    uniform in ``±1/sqrt(fan_in)``, PyTorch's default distribution. Raises ValueError for an unknown activation or norm,
    or a size below one.
    """
    _check_sizes(classes=classes, channels=channels, size=size, **{f"widths[{i}]": w for i, w in enumerate(widths)})
    if norm not in (None, "batch"):
        raise ValueError(f'expected norm=None or norm="batch", got {norm!r}.')
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    side, last = size, channels
    for index, width in enumerate(widths, start=1):
        stride = 2 if index % 2 == 0 else 1
        layers[f"conv{index}"] = _convolution(last, width, kernel=3, stride=stride, bias=norm is None)
        if norm == "batch":
            layers[f"norm{index}"] = nn.BatchNorm2d(width, device="cpu", dtype=torch.float32)
        layers[f"activation{index}"] = _activation(activation)
        side, last = math.ceil(side / stride), width
    layers["flatten"] = nn.Flatten()
    layers["linear"] = _linear(last * side * side, classes)
    return _draw(nn.Sequential(layers), seed=seed)


def _convolution(inputs: int, outputs: int, *, kernel: int, stride: int, bias: bool = True) -> nn.Module:
    """A convolution whose weights are not filled yet: on the meta device the constructor draws nothing."""
    meta = nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias, device="meta", dtype=torch.float32
    )
    return meta.to_empty(device="cpu")


def _linear(inputs: int, outputs: int) -> nn.Module:
    return nn.Linear(inputs, outputs, device="meta", dtype=torch.float32).to_empty(device="cpu")


def _draw(model: nn.Sequential, *, seed: int, bound: float | None = None) -> nn.Sequential:
    """Fill every convolution and linear layer from ``U(-bound, bound)``; the default bound is 1/sqrt(fan_in)."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model:
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        limit = 1 / math.sqrt(layer.weight[0].numel()) if bound is None else bound
        for parameter in layer.parameters():
            uniform = torch.rand(parameter.shape, generator=generator, dtype=torch.float64, device="cpu")
            parameter.data.copy_(limit * (2 * uniform - 1))
    return model


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}. Use one of: {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]()


def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"expected {name} as a whole number of at least 1, got {value!r}.")
