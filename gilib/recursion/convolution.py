"""R-GAP: solve for the image, layer by layer, from the logit inwards."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gilib.federated import Update, error_scale
from gilib.recursion.door import check_numbers, check_precise, double_update, is_one_step, on_cpu, rounding_of
from gilib.recursion.head import Start, starts
from gilib.recursion.network import LayerShape, layers_of
from gilib.recursion.reconstruction import LayerReport, Reconstruction
from gilib.recursion.systems import pull_back, solve_layer


@dataclass(frozen=True, eq=False)
class Step:
    """One step inwards: the ``inputs`` (C, H, W) that were found for ``layer``, and how well they were determined."""

    layer: LayerShape
    inputs: Tensor
    report: LayerReport


def rgap(model: nn.Module, update: Update) -> Reconstruction:
    """Recover one image from its gradient in closed form, one linear system a layer (R-GAP).

    Works on a network that is a chain (see ``gilib.chain``) of convolutions and linear layers, with or without biases,
    and invertible activations (LeakyReLU, sigmoid, tanh). Frozen biases are known to the server and used. The linear
    algebra is in float64 on the CPU, whatever the client computed in. The first entry of
    ``layers`` reports on the logit equation. Where that has two solutions, the one whose image misses fewer equations
    is returned, and of two that miss none, as happens without biases, the one nearer to [0, 1]. If both images lie
    there, they have the same gradient, no attack can tell them apart, and the report of the logit has rank 0. The label
    is found too, if the loss is a cross-entropy; otherwise ``labels`` is None.

    Raises ValueError for a layer that cannot be inverted, such as max-pooling or ReLU, by its name; for more than one
    image or local step, and for a step that is not plain SGD; for an update of another model, in half precision, or
    without the gradient of a frozen weight; for a last layer without a bias gradient and another loss than
    cross-entropy; and for a gradient that is zero or not finite.

    Known as: R-GAP (attack). Needs one image, and a chain of layers whose activations can be inverted.
    Source: Zhu & Blaschko (2021). Taught in: recursion/rgap.
    """
    check_numbers(update)
    layers = layers_of(model, update.image_shape)
    _check(layers, model, update)
    rounding, update = rounding_of(update), double_update(update)
    ways = _ways(layers, update, rounding)
    misses = [max(step.report.residual for step in steps) for _, steps in ways]
    agreeing = [way for way, miss in zip(ways, misses, strict=True) if miss <= 1e3 * min(misses) + 1e-12]
    start, steps = min(agreeing, key=lambda way: _outside(way[1][-1].inputs))
    twins = sum(_outside(way[1][-1].inputs) < 1e-6 for way in agreeing) > 1
    logit = replace(start.report, rank=0) if twins else start.report
    return Reconstruction(
        images=steps[-1].inputs.reshape(1, *update.image_shape),
        labels=_label(start, layers[-1], update),
        layers=(logit, *(step.report for step in steps)),
    )


def inward(
    layers: list[LayerShape], gradients: Mapping[str, Tensor], start: Start, *, rounding: float | None = None
) -> Iterator[Step]:
    """Solve the layers from the last to the first, given one solution of the logit equation.

    Between two layers, the output of the inner one is the input just found with its activation undone, and the
    derivative of the loss goes back by the transposed convolution and the activation's slope. ``rounding`` is the
    relative error of the gradients, by default that of their dtype.

    Taught in: recursion/rgap.
    """
    k, z = start.k, start.z
    for place in range(len(layers) - 1, -1, -1):
        layer = layers[place]
        gradient = on_cpu(gradients[layer.parameter])
        precision = torch.finfo(gradients[layer.parameter].dtype).eps if rounding is None else rounding
        x, report = solve_layer(layer, k=k, gradient=gradient, z=z, tolerance=precision**0.5)
        yield Step(layer, x, report)
        if place:
            inner = layers[place - 1]
            x = x.reshape(inner.outputs)
            k = pull_back(layer, k).reshape(inner.outputs) * inner.activation.slope(x)
            z = inner.activation.inverse(x)
            z = z if inner.bias is None else z - inner.bias[:, None, None]


def _ways(layers: list[LayerShape], update: Update, rounding: float) -> list[tuple[Start, list[Step]]]:
    """Every start with its steps. Where no layer minds a factor, the second start of a label only scales them."""
    scales = all(layer.bias is None and layer.activation.homogeneous for layer in layers)
    ways: list[tuple[Start, list[Step]]] = []
    for start in starts(layers[-1], update):
        if scales and ways and ways[-1][0].label == start.label:
            factor = ways[-1][0].k[0] / start.k[0]
            ways.append((start, [replace(step, inputs=factor * step.inputs) for step in ways[-1][1]]))
        else:
            ways.append((start, list(inward(layers, update.gradients, start, rounding=rounding))))
    return ways


def _outside(image: Tensor) -> float:
    """By how much the worst pixel misses [0, 1]."""
    return float((image - image.clamp(0, 1)).abs().max())


def _label(start: Start, last: LayerShape, update: Update) -> Tensor | None:
    """The label that a start belongs to, where the loss's derivative is that of a cross-entropy."""
    scale = error_scale(update.loss, len(last.weight), samples=1, like=last.weight)
    return None if scale is None else torch.tensor([start.label], device="cpu")


def _check(layers: list[LayerShape], model: nn.Module, update: Update) -> None:
    if update.batch_size != 1 or not is_one_step(update):
        raise ValueError(
            f"expected the gradient of one image after one local step, got batch_size={update.batch_size} and "
            f"steps={update.local.count(update.batch_size)} of {update.local}. The recursion solves for one image "
            "and one plain gradient; of several, of weight decay or of Adam it would solve for a mixture."
        )
    parameters = dict(model.named_parameters())
    for layer in layers:
        got, parameter = update.gradients.get(layer.parameter), parameters.get(layer.parameter)
        if parameter is None:
            raise ValueError(f"{layer.parameter!r} is shared with another layer: its gradient is a mixture.")
        if got is None and not parameter.requires_grad:
            raise ValueError(
                f"parameter {layer.parameter!r} is frozen, so the client shares no gradient of it, and the recursion "
                "needs that of every weight. Search for the image instead (gilib.iteration)."
            )
        if got is None or got.numel() != layer.weight.numel():
            raise ValueError(
                f"the update has no gradient of {layer.parameter!r} with {layer.weight.numel()} entries. Give the "
                "model that the client trained."
            )
        if not got.isfinite().all():
            raise ValueError(
                f"the gradient of {layer.parameter!r} holds NaN or infinite entries: nothing can be solved."
            )
    check_precise(update)
    names = [layer.name for layer in layers]
    if len(set(names)) < len(names):
        raise ValueError(f"layer {max(names, key=names.count)!r} runs more than once: its gradient is a mixture.")
