"""Which parameters make the logits: found from what the model computes, not from names or the order of definition.

A last layer adds ``W h + b`` to the logits. So the derivative of the logits by b is the identity, and that by W is h in
every row. Both are tested on one random image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gilib.draws import seeded_generator
from gilib.federated.functional import as_function, checked_logits, copied, reference
from gilib.federated.simulation import Forward, Gradients


@dataclass(frozen=True)
class Head:
    """The last layer: names of its trainable ``weight`` and ``bias`` (None for one that is missing), and the logits.

    ``logits`` is how many there are. ``signed`` says whether the features that enter the layer can be negative, as far
    as a few random images show. A single logit z is a choice between the logits 0 and z: its layer reads as two rows.
    """

    weight: str | None
    bias: str | None
    logits: int
    signed: bool

    @property
    def classes(self) -> int:
        """The number of classes that the logits tell apart."""
        return max(2, self.logits)

    def weight_gradient(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """The gradient (classes, d) of the weight. Raises ValueError where it is not shared."""
        if self.weight is None or self.weight not in gradients:
            raise ValueError(
                "the weight gradient of the last layer is needed, and it is not shared: that weight is frozen or held "
                "back. idlg() needs the bias alone."
            )
        return self._rows(gradients[self.weight].flatten(1))

    def bias_gradient(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """The gradient (classes,) of the bias. Raises ValueError where it is not shared."""
        if not self.has_bias(gradients):
            raise ValueError(
                "the bias gradient of the last layer is needed, and it is not shared. llg() does without where "
                "features are not negative."
            )
        assert self.bias is not None
        return self._rows(gradients[self.bias])

    def has_bias(self, gradients: Mapping[str, Tensor]) -> bool:
        """Whether the gradient of the bias is shared."""
        return self.bias is not None and self.bias in gradients

    def features(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """What entered the layer, (d,): exactly for one sample, roughly the mean of a batch of similar features.

        Every row of the weight gradient is about the bias gradient's entry times the features; this is the
        least-squares solution. Safe under ``torch.func.vmap``. Raises ValueError where the last layer has no bias.
        """
        weight, bias = self.weight_gradient(gradients), self.bias_gradient(gradients)
        return bias @ weight / bias.square().sum()

    def _rows(self, value: Tensor) -> Tensor:
        return torch.cat([-value, value]) if self.logits == 1 else value


def find_head(model: nn.Module, image_shape: tuple[int, ...]) -> Head:
    """The last layer of a model for images of ``image_shape`` (C, H, W), in eval mode.

    Takes any layer whose weight and bias enter the logits linearly and nowhere else: fully connected, or a convolution
    that is averaged over positions. Functions that only shift all logits may follow (log-softmax). Raises ValueError
    where no trainable parameter does so.
    """
    state = (image_shape, tuple((name, value._version) for name, value in trained_parameters(model).items()))
    known = _FOUND.setdefault(model, {})
    if state not in known:
        known.clear()
        known[state] = _find(in_single(model), image_shape)
    return known[state]


_FOUND: WeakKeyDictionary[nn.Module, dict[object, Head]] = WeakKeyDictionary()  # as long as a model lives


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of which a client shares gradients, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _find(searched: nn.Module, image_shape: tuple[int, ...]) -> Head:
    forward, parameters = as_function(searched)
    like = reference(searched)
    image = _random_images(image_shape, 1, like)
    with torch.no_grad():
        count = checked_logits(forward, parameters, image).shape[1]
    first, second = _cotangents(count, like)
    slopes = [_slopes(forward, parameters, image, one) for one in (first, second)]
    named = [name for name, value in parameters.items() if value.ndim and value.shape[0] == count]
    biases = [n for n in named if parameters[n].ndim == 1 and _is_bias(slopes, n, (first, second))]
    weights = [
        n
        for n in named
        if parameters[n].ndim > 1
        and _is_weight(slopes, n, (first, second))
        and _is_linear(forward, parameters, image, n, _row(slopes[0][n], first))
    ]
    if not biases and not weights:
        raise ValueError(
            "no trainable parameter of the model is a last layer, whose weight or bias adds to the logits: it is "
            "frozen, computed from other parameters, used twice, or something nonlinear follows. Labels cannot be read "
            "off it; use joint(), or known() where the threat model gives them."
        )
    weight = weights[-1] if weights else None
    signed = weight is None or _signed(forward, parameters, _random_images(image_shape, 6, like), weight, first)
    return Head(weight, biases[-1] if biases else None, count, signed)


def in_single(model: nn.Module) -> nn.Module:
    """The model, or where it computes in half precision a copy in float32: half has too few digits to search with."""
    halves = (torch.float16, torch.bfloat16)
    if not any(value.dtype in halves for value in (*model.parameters(), *model.buffers())):
        return model
    copy = copied(model)
    for value in (*copy.parameters(), *copy.buffers()):
        if value.dtype in halves:
            value.data = value.data.float()
    return copy


def _random_images(shape: tuple[int, ...], count: int, like: Tensor) -> Tensor:
    """Noise of different brightness and contrast."""
    drawn = torch.rand(count, *shape, generator=seeded_generator(0), dtype=torch.float64, device="cpu")
    spread = torch.linspace(1.0, 0.1, count, dtype=torch.float64, device="cpu").reshape(-1, 1, 1, 1)
    return (0.5 + spread * (drawn - 0.5)).to(like)


def _cotangents(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Two directions of the logits (K,) that a shift of all logits does not see."""
    drawn = torch.randn(2, count, generator=seeded_generator(1), dtype=torch.float64, device="cpu")
    centred = drawn - drawn.mean(dim=1, keepdim=True) if count > 1 else drawn
    first, second = centred.to(like)
    return first, second


def _slopes(forward: Forward, parameters: Gradients, image: Tensor, along: Tensor) -> Gradients:
    """The derivative by every parameter of the logits along a direction."""
    with torch.enable_grad():
        tracked = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        value = (forward(tracked, image)[0] * along).sum()
        found = torch.autograd.grad(value, list(tracked.values()), materialize_grads=True, allow_unused=True)
    return dict(zip(tracked, found, strict=True))


def _row(slope: Tensor, along: Tensor) -> Tensor:
    return along @ slope.flatten(1) / along.square().sum()


def _is_bias(slopes: list[Gradients], name: str, along: tuple[Tensor, Tensor]) -> bool:
    return all(_close(slope[name], one) for slope, one in zip(slopes, along, strict=True))


def _is_weight(slopes: list[Gradients], name: str, along: tuple[Tensor, Tensor]) -> bool:
    rows = [_row(slope[name], one) for slope, one in zip(slopes, along, strict=True)]
    products = [
        _close(slope[name].flatten(1), torch.outer(one, row))
        for slope, one, row in zip(slopes, along, rows, strict=True)
    ]
    return bool(rows[0].any()) and all(products) and _close(*rows)


def _is_linear(forward: Forward, parameters: Gradients, image: Tensor, name: str, row: Tensor) -> bool:
    """Whether doubling the weight adds weight times features to the logits, up to a shift of all of them."""
    weight = parameters[name]
    with torch.no_grad():
        added = (forward({**parameters, name: 2 * weight}, image) - forward(parameters, image))[0]
        expected = weight.flatten(1) @ row
    if len(added) > 1:
        added, expected = added - added.mean(), expected - expected.mean()
    return _close(added, expected)


def _signed(forward: Forward, parameters: Gradients, images: Tensor, name: str, along: Tensor) -> bool:
    rows = torch.stack([_row(_slopes(forward, parameters, image[None], along)[name], along) for image in images])
    return bool((rows < -1e-6 * rows.abs().max()).any())


def _close(found: Tensor, expected: Tensor) -> bool:
    tolerance = 1e-8 if found.dtype == torch.float64 else 1e-3
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())
