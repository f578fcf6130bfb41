"""Fully connected layers: one division of the shared gradients gives back what entered the layer.

A layer ``z = W h + b`` has the gradients ``∇W = δ hᵀ`` and ``∇b = δ`` for one sample, with the same ``δ = ∂ℓ/∂z``.
So each row of the first, divided by its entry of the second, is the input ``h``. A batch adds such products up, and
the answer is then a mixture of the samples, which the report says.
"""

import torch
from torch import Tensor, nn

from gilib.federated import Update, as_function, checked_logits, cross_entropy, seeded_generator, working_copy
from gilib.recursion.reconstruction import LayerReport, Reconstruction

__all__ = ["dense_input", "dense_report", "layer_inputs", "lone_inputs", "phong"]


def dense_input(weight: Tensor, bias: Tensor) -> Tensor:
    """What entered a fully connected layer, (in,), from its gradients ``weight`` (out, in) and ``bias`` (out,).

    The least-squares solution ``h`` of ``weight = bias hᵀ`` over all rows, ``biasᵀ weight / |bias|²``. For one sample
    it is exact, and noise hurts it less than it hurts any single row. For a batch it is a mixture of the samples'
    inputs, with weights that sum to one and may be negative. Where the whole bias gradient is zero nothing is known,
    and the answer is zero, the shortest of all. Raises ValueError for shapes that do not fit.

    Source: Phong et al. (2018); Geiping et al. (2020). Taught in: recursion/dense.

    >>> delta, h = torch.tensor([0.5, -2.0]), torch.tensor([1.0, 2.0, 3.0])
    >>> dense_input(torch.outer(delta, h), delta)
    tensor([1., 2., 3.])
    """
    _check_shapes(weight, bias)
    largest = bias.abs().max()
    if largest == 0:
        return torch.zeros_like(weight[0])
    unit = bias / largest  # squares of tiny gradients would underflow
    return unit @ weight / (largest * unit.square().sum())


def dense_report(weight: Tensor, bias: Tensor, *, name: str = "", samples: int = 1) -> LayerReport:
    """How far the gradients ``weight`` (out, in) and ``bias`` (out,) of layer ``name`` determine what entered it.

    ``r``, the numerical rank of ``[weight | bias]``, counts the inputs that left a trace, and ``s`` is the larger of
    ``r`` and ``samples``, the batch size that the client states. The unknowns are ``s`` inputs. The gradients fix only
    a span of ``r`` directions among the rows ``[h | 1]``, which is worth ``rank = r (in + 1 - s)`` numbers: all of them
    for one sample, ``s (s - 1)`` too few for a batch of ``s = r``. ``residual`` is that of the one input of
    ``dense_input``, relative to the norm of ``weight``; ``condition`` is that of ``[weight | bias]``, infinite where
    nothing was shared.

    Taught in: recursion/dense.
    """
    wide = torch.cat([weight, bias[:, None]], dim=1)
    values = torch.linalg.svdvals(wide)
    rank = int((values > max(wide.shape) * torch.finfo(wide.dtype).eps * values[0]).sum())
    inputs, traces = weight.shape[1], max(samples, rank)
    left = weight - torch.outer(bias, dense_input(weight, bias))
    norm = weight.norm()
    return LayerReport(
        name=name,
        unknowns=traces * inputs,
        equations=weight.numel(),
        rank=rank * max(inputs + 1 - traces, 0),
        residual=float(left.norm() / norm) if norm > 0 else 0.0,
        condition=float(values[0] / values[rank - 1]) if rank else float("inf"),
    )


def lone_inputs(weight: Tensor, bias: Tensor, *, tolerance: float = 1e-9) -> Tensor:
    """The inputs of a batch that at least two neurons saw alone, (found, in), ``found`` being zero or more.

    A ReLU neuron that is awake for one sample only gives that sample's input by its own division,
    ``weight[i] / bias[i]``. Two such neurons agree, two mixtures only by accident: no true image is needed to tell
    them apart. Rows agree if their entries differ by at most ``tolerance`` times the larger row's largest entry; the
    default suits float64. Takes what ``dense_input`` takes and raises the same ValueError.

    Taught in: recursion/dense.
    """
    _check_shapes(weight, bias)
    awake = bias != 0
    if not awake.any():
        return weight[:0]
    rows = weight[awake] / bias[awake, None]
    largest = rows.abs().amax(dim=1)
    same = torch.cdist(rows, rows, p=torch.inf) <= tolerance * torch.maximum(largest[:, None], largest)
    first = same.int().argmax(dim=1) == torch.arange(len(rows), device=rows.device)
    return rows[first & (same.sum(dim=1) > 1)]


def layer_inputs(update: Update) -> dict[str, Tensor]:
    """What entered each fully connected layer with a bias, layer name to (in,), in the order of the model.

    Each is ``dense_input`` of that layer's own gradients: no layer needs the others, nor the model. Raises ValueError
    where the update holds no such layer.

    Source: Geiping et al. (2020). Taught in: recursion/dense.
    """
    found = {}
    for key, weight in update.gradients.items():
        name, _, kind = key.rpartition(".")
        bias = update.gradients.get(f"{name}.bias" if name else "bias")
        if kind == "weight" and weight.ndim == 2 and bias is not None:
            found[name] = dense_input(weight, bias)
    if not found:
        raise ValueError(
            "the update holds no fully connected layer with a bias (a 2-dimensional weight and a bias of one name); "
            f"it holds {', '.join(update.gradients)}. Use rgap for layers without bias and for convolutions."
        )
    return found


def phong(model: nn.Module, update: Update) -> Reconstruction:
    """Divide the gradients of the first layer: the image itself, where that layer is fully connected and has a bias.

    For one sample the image is exact, after several local steps too, because the image stays the same in all of them.
    For a batch ``images`` is (1, C, H, W), one mixture of the whole batch, and ``exact`` is False. The label is the one
    negative entry of the last bias gradient, or None for a batch, another loss than cross-entropy, or no last bias.
    ``layers`` reports on the first layer.

    Raises ValueError for a first layer that is not fully connected, has no bias or does not see the pixels as they are
    (the message names it), and for an update of another model.

    Source: Phong et al. (2018). Taught in: recursion/dense.
    """
    probe, layers = _layers_in_order(model, update.image_shape)
    name, layer, seen = layers[0]
    _check_first(name, layer, seen=seen, probe=probe)
    weight, bias = _shared(update, name, layer, "weight"), _shared(update, name, layer, "bias")
    report = dense_report(weight, bias, name=name, samples=update.batch_size)
    images = dense_input(weight, bias).reshape(1, *update.image_shape)
    return Reconstruction(images=images, labels=_label(update, layers[-1][0]), layers=(report,))


def _layers_in_order(
    model: nn.Module, image_shape: tuple[int, int, int]
) -> tuple[Tensor, list[tuple[str, nn.Module, Tensor]]]:
    """A probe image, and the layers with parameters in the order in which it meets them: name, layer, what entered."""
    module, (_, parameters) = working_copy(model, mode="eval"), as_function(model)
    reference = next(iter(parameters.values()))
    probe = torch.rand(1, *image_shape, generator=seeded_generator(0), dtype=torch.float64).to(reference)
    found: list[tuple[str, nn.Module, Tensor]] = []
    for name, part in module.named_modules():
        if any(True for _ in part.parameters(recurse=False)):
            part.register_forward_pre_hook(lambda layer, inputs, name=name: found.append((name, layer, inputs[0])))
    with torch.no_grad():
        checked_logits(lambda _, images: module(images), parameters, probe)
    return probe, found


def _check_first(name: str, layer: nn.Module, *, seen: Tensor, probe: Tensor) -> None:
    kind = type(layer).__name__
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"expected a fully connected first layer; layer {name!r} is a {kind}, whose weights the positions of the "
            "image share, so that a division gives a mixture of them. Use rgap, or layer_inputs for later layers."
        )
    if layer.bias is None:
        raise ValueError(
            f"layer {name!r} has no bias, and its gradient gives the image only up to an unknown factor. "
            "Use rgap, which finds the factor from the layers behind."
        )
    if seen.shape != (1, probe.numel()) or not torch.equal(seen.flatten(), probe.flatten()):
        raise ValueError(
            f"layer {name!r} does not see the pixels as they are: got {tuple(seen.shape)} for an image of "
            f"{tuple(probe.shape)}, or changed values. Use layer_inputs for what it sees, and undo the change."
        )


def _shared(update: Update, name: str, layer: nn.Module, kind: str) -> Tensor:
    """The shared gradient of one parameter, or a ValueError if it does not belong to this model."""
    key = f"{name}.{kind}" if name else kind
    value, expected = update.gradients.get(key), layer.get_parameter(kind).shape
    if value is None or value.shape != expected or not value.isfinite().all():
        got = "none" if value is None else f"{tuple(value.shape)}, finite: {bool(value.isfinite().all())}"
        raise ValueError(
            f"expected a finite gradient {key!r} of shape {tuple(expected)} in the update; got {got}. "
            "Pass the model that the client trained."
        )
    return value


def _label(update: Update, last: str) -> Tensor | None:
    """For one sample and cross-entropy the last bias gradient is p - y: negative at the label and nowhere else."""
    bias = update.gradients.get(f"{last}.bias" if last else "bias")
    if update.loss is not cross_entropy or update.batch_size != 1 or bias is None or not bias.min() < 0:
        return None
    return bias.argmin().reshape(1)


def _check_shapes(weight: Tensor, bias: Tensor) -> None:
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise ValueError(
            "expected the gradients of one fully connected layer, weight (out, in) and bias (out,); "
            f"got {tuple(weight.shape)} and {tuple(bias.shape)}. Unroll a convolution first."
        )
