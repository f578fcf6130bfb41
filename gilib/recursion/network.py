"""A network as the recursion sees it: a list of linear maps, each followed by an activation.

A linear layer is a convolution of a 1 x 1 picture with a 1 x 1 kernel, so one description covers both. The padding is
a number here and no unknown: what is outside the picture is zero and stays so.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Activation:
    """An activation by what the recursion needs of it, both as functions of its *output*.

    ``inverse`` gives back what went in, ``slope`` is the derivative there. ``homogeneous`` says whether c times the
    input, for every c > 0, gives c times the output.
    """

    inverse: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    homogeneous: bool = False


@dataclass(frozen=True, eq=False)
class LayerShape:
    """One convolution or linear layer: ``z = W * x + b``, then the activation.

    ``weight`` (O, C, kh, kw) and ``bias`` (O,) or None, in float64; ``inputs`` (C, H, W) and ``outputs`` (O, H', W').
    Of a linear layer all of kh, kw, H, W, H' and W' are 1. ``parameter`` is the name under which ``Update.gradients``
    lists the weight's gradient.
    """

    name: str
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    inputs: tuple[int, int, int]
    outputs: tuple[int, int, int]
    activation: Activation

    @property
    def parameter(self) -> str:
        return f"{self.name}.weight"

    @property
    def unknowns(self) -> int:
        """How many numbers the input has."""
        return math.prod(self.inputs)


def layers_of(model: nn.Module, image_shape: tuple[int, int, int]) -> list[LayerShape]:
    """The linear maps of a sequential network in the order of the forward pass, for images of (C, H, W).

    Takes ``nn.Sequential``, nested or not, of convolutions, linear layers, flattening, and LeakyReLU, sigmoid or tanh.
    Raises ValueError for any other model or layer (ReLU, pooling, batch normalization, a residual block), which it
    names, and for images that do not fit.

    Source: Zhu & Blaschko (2021). Taught in: recursion/rgap.
    """
    layers: list[LayerShape] = []
    features = torch.zeros(1, *image_shape, dtype=torch.float64)
    for name, part in leaves(model):
        if isinstance(part, nn.Conv2d | nn.Linear):
            layer = _linear_map(name, part, features)
            features = torch.zeros(1, *layer.outputs, dtype=torch.float64)
            layers.append(layer)
        elif isinstance(part, nn.Flatten | nn.Identity):
            continue
        elif layers and (activation := _activation(part)) is not None:
            layers[-1] = _with_activation(layers[-1], activation)
        else:
            raise ValueError(
                f"layer {name!r} ({type(part).__name__}) cannot be inverted, so the recursion cannot pass it. It "
                "passes convolutions, linear layers, LeakyReLU, Sigmoid, Tanh and Flatten; strides replace pooling."
            )
    if not layers:
        raise ValueError("expected a network with at least one convolution or linear layer, got none.")
    return layers


def leaves(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers of nested ``nn.Sequential`` in the order they run; a layer that stands twice comes twice."""
    if not isinstance(module, nn.Sequential):
        yield name or "model", module
        return
    for child, part in module._modules.items():  # named_children would drop the second of two
        assert part is not None
        yield from leaves(part, f"{name}.{child}" if name else child)


def _linear_map(name: str, part: nn.Conv2d | nn.Linear, features: Tensor) -> LayerShape:
    """Describe a layer that takes ``features`` (1, C, H, W)."""
    weight = part.weight.detach().double()
    stride, padding = (1, 1), (0, 0)
    if isinstance(part, nn.Linear):
        weight, features = weight[:, :, None, None], features.reshape(1, -1, 1, 1)
    elif part.groups != 1 or part.dilation != (1, 1) or part.padding_mode != "zeros" or isinstance(part.padding, str):
        raise ValueError(
            f"layer {name!r} is a convolution with groups, dilation, or padding other than a number of zeros. "
            "Use groups=1, dilation=1 and padding=k."
        )
    else:
        stride, padding = (part.stride[0], part.stride[1]), (part.padding[0], part.padding[1])
    try:
        outputs = nn.functional.conv2d(features, weight, stride=stride, padding=padding).shape[1:]
    except RuntimeError as error:  # what torch raises where shapes do not fit
        raise ValueError(f"layer {name!r} does not take features of shape {tuple(features.shape[1:])}.") from error
    return LayerShape(
        name=name,
        weight=weight,
        bias=None if part.bias is None else part.bias.detach().double(),
        stride=stride,
        padding=padding,
        inputs=(features.shape[1], features.shape[2], features.shape[3]),
        outputs=(outputs[0], outputs[1], outputs[2]),
        activation=_IDENTITY,
    )


def _with_activation(layer: LayerShape, activation: Activation) -> LayerShape:
    if layer.activation is not _IDENTITY:
        raise ValueError(f"layer {layer.name!r} is followed by two activations. Put a linear map between them.")
    return replace(layer, activation=activation)


def _activation(part: nn.Module) -> Activation | None:
    """What the recursion needs of an activation; None for one without an inverse."""
    if isinstance(part, nn.LeakyReLU) and part.negative_slope > 0:
        slope = part.negative_slope
        return Activation(lambda x: torch.where(x > 0, x, x / slope), lambda x: 1 - (1 - slope) * (x <= 0).to(x), True)
    if isinstance(part, nn.Sigmoid):
        return Activation(lambda x: torch.logit(_inside(x, 0.0)), lambda x: x * (1 - x))
    if isinstance(part, nn.Tanh):
        return Activation(lambda x: torch.atanh(_inside(x, -1.0)), lambda x: 1 - x.square())
    return None


def _inside(x: Tensor, low: float) -> Tensor:
    """Move what rounding or a guess has carried out of the activation's range (low, 1) just inside it."""
    return x.clamp(low + 1e-15, 1 - 1e-15)


_IDENTITY = Activation(lambda x: x, torch.ones_like, True)
