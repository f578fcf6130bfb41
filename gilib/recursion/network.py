"""A network as the recursion sees it: a list of linear maps, each followed by an activation.

A linear layer is a convolution of a 1 x 1 picture with a 1 x 1 kernel, so one description covers both. The padding is
a number here and no unknown: what is outside the picture is zero and stays so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gilib.chain import chain
from gilib.recursion.door import check_plain, on_cpu


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


def layers_of(model: nn.Module, image_shape: tuple[int, ...]) -> list[LayerShape]:
    """The linear maps of a network in the order of the forward pass, for images of (C, H, W).

    Takes any model that is a chain (see ``gilib.chain``) of convolutions, linear layers, changes of shape, and
    LeakyReLU, sigmoid or tanh; a log-softmax may end it. Everything is in float64 on the CPU. Raises ValueError for any
    other model or layer (ReLU, pooling, batch normalization, a residual block), which it names, and for images that do
    not fit.

    Source: Zhu & Blaschko (2021). Taught in: recursion/rgap.
    """
    layers: list[LayerShape] = []
    features: tuple[int, ...] = tuple(image_shape)
    for name, part in without_log_softmax(chain(model, image_shape=image_shape)):
        if isinstance(part, nn.Conv2d | nn.Linear):
            layer = _linear_map(name, part, features)
            features = layer.outputs[:1] if isinstance(part, nn.Linear) else layer.outputs
            layers.append(layer)
        elif isinstance(part, nn.Flatten | nn.Unflatten | nn.Identity):
            features = _reshaped(name, part, features)
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


def without_log_softmax(links: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """The chain up to its logits: a log-softmax behind them does not change their cross-entropy."""
    last = links[-1][1] if links else None
    return links[:-1] if isinstance(last, nn.LogSoftmax) and last.dim in (1, -1) else links


def _reshaped(name: str, part: nn.Module, features: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a change of shape makes of ``features``; no numbers are needed for that."""
    try:
        shape = part(torch.empty(1, *features, device="meta")).shape
    except RuntimeError as error:  # what torch raises where shapes do not fit
        raise ValueError(f"layer {name!r} ({part}) does not take features of shape {features}.") from error
    return tuple(shape[1:])


def _linear_map(name: str, part: nn.Conv2d | nn.Linear, features: tuple[int, ...]) -> LayerShape:
    """Describe a layer that takes ``features`` (C, H, W)."""
    check_plain(name, part)
    weight = on_cpu(part.weight)
    stride, padding = (1, 1), (0, 0)
    if isinstance(part, nn.Linear):
        weight, features = weight[:, :, None, None], (math.prod(features), 1, 1)
    elif part.groups != 1 or part.dilation != (1, 1) or part.padding_mode != "zeros" or isinstance(part.padding, str):
        raise ValueError(
            f"layer {name!r} is a convolution with groups, dilation, or padding other than a number of zeros. "
            "Use groups=1, dilation=1 and padding=k."
        )
    else:
        stride, padding = (part.stride[0], part.stride[1]), (part.padding[0], part.padding[1])
    if len(features) != 3:
        raise ValueError(f"layer {name!r} is a convolution and gets features of shape {features}, not (C, H, W).")
    geometry = zip(features[1:], weight.shape[2:], stride, padding, strict=True)
    height, width = (max(0, (side + 2 * pad - kernel) // step + 1) for side, kernel, step, pad in geometry)
    if features[0] != weight.shape[1] or not height * width:
        raise ValueError(
            f"layer {name!r} does not take features of shape {features}: it expects {weight.shape[1]} channels or "
            f"inputs and a picture of at least its kernel, {tuple(weight.shape[2:])}."
        )
    return LayerShape(
        name=name,
        weight=weight,
        bias=None if part.bias is None else on_cpu(part.bias),
        stride=stride,
        padding=padding,
        inputs=(features[0], features[1], features[2]),
        outputs=(len(weight), height, width),
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
