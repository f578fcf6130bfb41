"""The networks that clients train, with weights that are the same on every machine.

Every model is a ``torch.nn.Sequential`` of named layers (the blocks of a ResNet among them): it takes images
``(B, C, H, W)`` and returns logits ``(B, classes)``. The weights come from one float64 ``torch.Generator``, whose
``rand`` does not depend on the CPU, and are then stored in float32; use ``model.double()`` to compute in float64.
Building a model never touches the global random state.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

__all__ = ["ACTIVATIONS", "cnn6", "convnet", "lenet", "mlp", "resnet"]

_Network = TypeVar("_Network", bound=nn.Module)

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}


def lenet(
    classes: int = 10,
    *,
    channels: int = 3,
    size: int = 32,
    width: int = 12,
    activation: str = "sigmoid",
    bound: float = 0.5,
    seed: int = 0,
) -> nn.Sequential:
    """The LeNet of Deep Leakage from Gradients: three 5 x 5 convolutions, then one linear layer.

    The strides are 2, 2, 1, so the linear layer sees a quarter of the resolution. Takes images
    ``(B, channels, size, size)``. Each convolution has `width` channels, 12 in the paper. All weights and biases are
    uniform in ``±bound``; the 0.5 of the paper is far wider than PyTorch's default. `activation` is one of
    `ACTIVATIONS`. Raises ValueError for an unknown activation, a size below one or a bound that is not positive.

    Source: Zhu, Liu & Han (2019), sec. 4.1 and the authors' code. Taught in: foundations/first_leak.
    """
    _check_sizes(classes=classes, channels=channels, size=size, width=width)
    if not bound > 0:
        raise ValueError(f"expected bound as a positive number, got {bound}.")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    side = size
    for index, (inputs, stride) in enumerate(((channels, 2), (width, 2), (width, 1)), start=1):
        layers[f"conv{index}"] = blank_convolution(inputs, width, kernel=5, stride=stride)
        layers[f"activation{index}"] = _activation(activation)
        side = math.ceil(side / stride)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = blank_linear(width * side * side, classes)
    return draw_weights(nn.Sequential(layers), seed=seed, bound=bound)


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
        layers[f"linear{index}"] = blank_linear(inputs, outputs)
        layers[f"activation{index}"] = _activation(activation)
    layers["linear"] = blank_linear(widths[-1], classes)
    return draw_weights(nn.Sequential(layers), seed=seed)


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
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    side, last = size, channels
    for index, width in enumerate(widths, start=1):
        stride = 2 if index % 2 == 0 else 1
        parts = _normalised_convolution(last, width, kernel=3, stride=stride, norm=norm)
        layers.update(zip((f"conv{index}", f"norm{index}"), parts, strict=False))
        layers[f"activation{index}"] = _activation(activation)
        side, last = math.ceil(side / stride), width
    layers["flatten"] = nn.Flatten()
    layers["linear"] = blank_linear(last * side * side, classes)
    return draw_weights(nn.Sequential(layers), seed=seed)


def cnn6(
    classes: int = 1,
    *,
    channels: int = 3,
    size: int = 32,
    widths: Sequence[int] = (12, 36, 36, 36, 64, 128),
    seed: int = 0,
) -> nn.Sequential:
    """The CNN6 of R-GAP: six convolutions and a linear layer, no bias anywhere, LeakyReLU of slope 0.2 in between.

    The first kernel is 4 x 4 with padding 2, the others are 3 x 3 with padding 1; convolutions 1, 2 and 5 have stride
    2. Takes images ``(B, channels, size, size)``; at 32 x 32 the linear layer has 3,200 inputs. ``classes=1`` is the
    single logit of the paper, for `gilib.federated.logistic`. The authors' narrower CNN6-d is
    ``widths=(12, 20, 36, 36, 64, 128)``. Kernels, strides and widths are those of the authors' public code; weights
    are uniform in ``±1/sqrt(fan_in)``, PyTorch's default distribution. Raises ValueError for a size below one or other
    than six widths.

    Source: Zhu & Blaschko (2021) and the authors' code. Taught in: recursion/rgap.
    """
    _check_sizes(classes=classes, channels=channels, size=size, **{f"widths[{i}]": w for i, w in enumerate(widths)})
    if len(widths) != 6:
        raise ValueError(f"expected six widths, one for each convolution, got {len(widths)}: {tuple(widths)}.")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    side = size
    for index, (inputs, outputs) in enumerate(pairwise((channels, *widths)), start=1):
        kernel, stride = 4 if index == 1 else 3, 2 if index in (1, 2, 5) else 1
        layers[f"conv{index}"] = blank_convolution(inputs, outputs, kernel=kernel, stride=stride, bias=False)
        layers[f"activation{index}"] = nn.LeakyReLU(0.2)
        side = (side + 2 * (kernel // 2) - kernel) // stride + 1
    layers["flatten"] = nn.Flatten()
    layers["linear"] = blank_linear(widths[-1] * side * side, classes, bias=False)
    return draw_weights(nn.Sequential(layers), seed=seed)


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut: ``activation(body(x) + shortcut(x))``.

    Where the size changes, the shortcut is a 1 x 1 convolution with the same stride.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, activation: str, norm: str | None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_normalised_convolution(inputs, outputs, kernel=3, stride=stride, norm=norm),
            _activation(activation),
            *_normalised_convolution(outputs, outputs, kernel=3, stride=1, norm=norm),
        )
        same = inputs == outputs and stride == 1
        shortcut = [] if same else _normalised_convolution(inputs, outputs, kernel=1, stride=stride, norm=norm)
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = _activation(activation)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images or features (B, inputs, H, W) to features (B, outputs, H / stride, W / stride)."""
        summed: torch.Tensor = self.activation(self.body(images) + self.shortcut(images))
        return summed


def resnet(
    classes: int = 10,
    *,
    channels: int = 3,
    size: int = 32,
    width: int = 8,
    blocks: int = 3,
    activation: str = "relu",
    norm: str | None = "batch",
    seed: int = 0,
) -> nn.Sequential:
    """A residual network for small images: three stages of `blocks` residual blocks, then one linear layer.

    Takes images ``(B, channels, size, size)``. The stages have `width`, ``2 * width`` and ``4 * width`` channels and
    the second and third halve the resolution; features are averaged over positions. ``blocks=3`` is ResNet-20, whose
    `width` is 16 in the paper; half of it trains on a CPU. ``norm="batch"`` normalizes after each convolution. Weights
    and biases are uniform in ``±1/sqrt(fan_in)``. Raises ValueError for an unknown activation or norm, or a size below
    one.

    Source: He et al. (2016), sec. 4.2, with 1 x 1 convolutions as shortcuts. Taught in: iteration/priors.
    """
    _check_sizes(classes=classes, channels=channels, size=size, width=width, blocks=blocks)
    stem = _normalised_convolution(channels, width, kernel=3, stride=1, norm=norm)
    layers = OrderedDict(zip(("conv", "norm"), stem, strict=False))
    layers["activation"] = _activation(activation)
    last = width
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            outputs = width * 2**stage
            layers[f"stage{stage + 1}_block{block + 1}"] = Residual(
                last, outputs, stride=stride, activation=activation, norm=norm
            )
            last = outputs
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = blank_linear(last, classes)
    return draw_weights(nn.Sequential(layers), seed=seed)


def _normalised_convolution(
    inputs: int, outputs: int, *, kernel: int, stride: int, norm: str | None
) -> list[nn.Module]:
    """A convolution and, with ``norm="batch"``, a batch normalization in place of its bias."""
    if norm not in (None, "batch"):
        raise ValueError(f'expected norm=None or norm="batch", got {norm!r}.')
    layers = [blank_convolution(inputs, outputs, kernel=kernel, stride=stride, bias=norm is None)]
    if norm == "batch":
        layers.append(nn.BatchNorm2d(outputs, device="cpu", dtype=torch.float32))
    return layers


def blank_convolution(
    inputs: int, outputs: int, *, kernel: int, stride: int, bias: bool = True, padding: int | None = None
) -> nn.Module:
    """A convolution whose weights are not filled yet: on the meta device the constructor draws nothing.

    The ``padding`` is half the kernel unless given.
    """
    around = kernel // 2 if padding is None else padding
    meta = nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=around, bias=bias, device="meta", dtype=torch.float32
    )
    return meta.to_empty(device="cpu")


def blank_linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Module:
    return nn.Linear(inputs, outputs, bias=bias, device="meta", dtype=torch.float32).to_empty(device="cpu")


def draw_weights(model: _Network, *, seed: int, bound: float | None = None) -> _Network:
    """Fill every convolution and linear layer from ``U(-bound, bound)``; the default bound is 1/sqrt(fan_in)."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
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
