"""Fully connected layers: one division of the shared gradients gives back what entered the layer.

A layer ``z = W h + b`` has the gradients ``∇W = δ hᵀ`` and ``∇b = δ`` for one sample, with the same ``δ = ∂ℓ/∂z``.
So each row of the first, divided by its entry of the second, is the input ``h``. A batch adds such products up, and
the answer is then a mixture of the samples, which the report says.
"""

import torch
from torch import Tensor, nn

from gilib.federated import Update, error_scale, find_head
from gilib.recursion.door import (
    HALVES,
    check_linear,
    check_numbers,
    check_plain,
    double_model,
    on_cpu,
    rounding_of,
    shared,
)
from gilib.recursion.first_layer import first_to_run
from gilib.recursion.reconstruction import LayerReport, Reconstruction

AGREEING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 5e-3}
"""How far two neurons that saw the same sample differ, by the dtype of their gradients."""

__all__ = ["dense_input", "dense_report", "layer_inputs", "lone_inputs", "nearest_input", "phong"]


def dense_input(weight: Tensor, bias: Tensor) -> Tensor:
    """What entered a fully connected layer, (in,), from its gradients ``weight`` (out, in) and ``bias`` (out,).

    The least-squares solution ``h`` of ``weight = bias hᵀ`` over all rows, ``biasᵀ weight / |bias|²``. For one sample
    it is exact, and noise hurts it less than it hurts any single row. For a batch it is a mixture of the samples'
    inputs, with weights that sum to one and may be negative. Where the whole bias gradient is zero nothing is known,
    and the answer is zero, the shortest of all. Raises ValueError for shapes that do not fit.

    Known as: division at a layer, analytic attack (attack). Needs one sample, and a fully connected layer with a bias.
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


def nearest_input(weight: Tensor, bias: Tensor, *, iterations: int = 100) -> Tensor:
    """What entered the layer, in [0, 1], (in,), if its gradients are inexact: noisy, rounded, or sent in part.

    The ``h`` in the box whose outer product with some ``d`` is nearest to ``[weight | bias]``, over the entries that
    are not zero: least squares for ``d`` and for ``h`` in turns, from ``dense_input``. An entry of ``h`` of which
    nothing was sent is zero. Takes what ``dense_input`` takes and raises the same ValueError.

    Taught in: defenses/matrix.

    >>> delta, h = torch.tensor([0.5, -2.0]), torch.tensor([1.0, 0.2, 0.3])
    >>> weight = torch.outer(delta, h)
    >>> weight[0, 1] = 0.0  # not sent
    >>> nearest_input(weight, delta)
    tensor([1.0000, 0.2000, 0.3000])
    """
    h = dense_input(weight, bias).clamp(0, 1)
    wide = torch.cat([weight, bias[:, None]], dim=1)
    sent, one = (wide != 0).to(wide), h.new_ones(1)
    for _ in range(iterations):
        ends = torch.cat([h, one])
        delta = (wide @ ends) / (sent @ ends.square()).clamp(min=torch.finfo(h.dtype).tiny)
        size = (delta.square() @ sent[:, :-1]).clamp(min=torch.finfo(h.dtype).tiny)
        h = (delta @ weight / size).clamp(0, 1)
    return h


def dense_report(
    weight: Tensor, bias: Tensor, *, name: str = "", samples: int = 1, rounding: float | None = None
) -> LayerReport:
    """How far the gradients ``weight`` (out, in) and ``bias`` (out,) of layer ``name`` determine what entered it.

    ``r``, the numerical rank of ``[weight | bias]``, counts the inputs that left a trace, and ``s`` is the larger of
    ``r`` and ``samples``, the batch size that the client states. The unknowns are ``s`` inputs. The gradients fix only
    a span of ``r`` directions among the rows ``[h | 1]``, which is worth ``rank = r (in + 1 - s)`` numbers: all of them
    for one sample, ``s (s - 1)`` too few for a batch of ``s = r``. ``residual`` is that of the one input of
    ``dense_input``, relative to the norm of ``weight``; ``condition`` is that of ``[weight | bias]``, infinite where
    nothing was shared. ``rounding`` is the relative error of the gradients, by default that of their dtype.

    Taught in: recursion/dense.
    """
    precision = torch.finfo(weight.dtype).eps if rounding is None else rounding
    if weight.dtype in HALVES:  # which have no singular value decomposition
        weight, bias = weight.float(), bias.float()
    wide = torch.cat([weight, bias[:, None]], dim=1)
    values = torch.linalg.svdvals(wide)
    rank = int((values > min(max(wide.shape) * precision, 0.1) * values[0]).sum())
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


def lone_inputs(weight: Tensor, bias: Tensor, *, tolerance: float | None = None) -> Tensor:
    """The inputs of a batch that at least two neurons saw alone, (found, in), ``found`` being zero or more.

    A ReLU neuron that is awake for one sample only gives that sample's input by its own division,
    ``weight[i] / bias[i]``. Two such neurons agree, two mixtures only by accident: no true image is needed to tell
    them apart. Rows agree if their entries differ by at most ``tolerance`` times the larger row's largest entry. By
    default that follows the dtype of ``weight``: 1e-9 for float64; for float32 1e-4, which the rounding of a gradient
    or of a difference of weights stays below; 5e-3 for half precision. Takes what ``dense_input`` takes and raises the
    same ValueError.

    Known as: lone neurons (attack). Needs neurons that were awake for one sample of the batch only.
    Taught in: recursion/dense.
    """
    _check_shapes(weight, bias)
    awake = bias != 0
    if not awake.any():
        return weight[:0]
    close = AGREEING.get(weight.dtype, 1e-9) if tolerance is None else tolerance
    rows = weight[awake].double() / bias[awake, None].double()
    largest = rows.abs().amax(dim=1)
    same = torch.cdist(rows, rows, p=torch.inf) <= close * torch.maximum(largest[:, None], largest)
    first = same.int().argmax(dim=1) == torch.arange(len(rows), device=rows.device)
    return rows[first & (same.sum(dim=1) > 1)].to(weight.dtype)


def layer_inputs(update: Update) -> dict[str, Tensor]:
    """What entered each fully connected layer with a bias, layer name to (in,), in the order of the model.

    Each is ``dense_input`` of that layer's own gradients: no layer needs the others, nor the model. Raises ValueError
    where the update holds no such layer, and where it is no sum of gradients (weight decay, Adam).

    Source: Geiping et al. (2020). Taught in: recursion/dense.
    """
    check_numbers(update)
    check_linear(update)
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


def phong(model: nn.Module, update: Update, *, inexact: bool = False) -> Reconstruction:
    """Divide the gradients of the first layer: the image itself, where that layer is fully connected and has a bias.

    For one sample the image is exact, after several local steps too, because the image stays the same in all of them.
    For a batch ``images`` is (1, C, H, W), one mixture of the whole batch, and ``exact`` is False. The label is the one
    negative entry of the last bias gradient, or None for a batch, another loss than a multiple of cross-entropy, or no
    such gradient. ``layers`` reports on the first layer. With ``inexact``, for updates that a defense rounded, cut or
    made noisy, the image is `nearest_input`, in [0, 1]. Computed in float64 on the CPU.

    Raises ValueError for a first layer that is not fully connected, has no bias, is frozen or does not see the pixels
    as they are (the message names it), for training with weight decay or Adam, and for an update of another model.

    Known as: Phong, division at the first layer (attack). Needs a first layer that is fully connected and has a bias.
    Source: Phong et al. (2018). Taught in: recursion/dense.
    """
    check_numbers(update)
    check_linear(update)
    working = double_model(model)
    name, layer, seen, probe = first_to_run(working, update.image_shape)
    _check_first(name, layer, seen=seen, probe=probe)
    weight, bias = (on_cpu(shared(update, model, f"{name}.{kind}" if name else kind)) for kind in ("weight", "bias"))
    report = dense_report(weight, bias, name=name, samples=update.batch_size, rounding=rounding_of(update))
    found = nearest_input(weight, bias) if inexact else dense_input(weight, bias)
    images = found.reshape(1, *update.image_shape)
    return Reconstruction(images=images, labels=_label(working, update), layers=(report,))


def _check_first(name: str, layer: nn.Module, *, seen: Tensor, probe: Tensor) -> None:
    kind = type(layer).__name__
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"expected a fully connected first layer; layer {name!r} is a {kind}, whose weights the positions of the "
            "image share, so that a division gives a mixture of them. Use rgap, or layer_inputs for later layers."
        )
    check_plain(name, layer)
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


def _label(working: nn.Module, update: Update) -> Tensor | None:
    """For one sample and cross-entropy the last bias gradient is p - y: negative at the label and nowhere else."""
    if update.batch_size != 1:
        return None
    try:
        head = find_head(working, update.image_shape)
    except ValueError:  # no layer that makes the logits
        return None
    like = next(working.parameters())
    if not head.has_bias(update.gradients) or error_scale(update.loss, head.logits, samples=1, like=like) is None:
        return None
    bias = on_cpu(head.bias_gradient(update.gradients))
    return bias.argmin().reshape(1) if bool(bias.min() < 0) else None


def _check_shapes(weight: Tensor, bias: Tensor) -> None:
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise ValueError(
            "expected the gradients of one fully connected layer, weight (out, in) and bias (out,); "
            f"got {tuple(weight.shape)} and {tuple(bias.shape)}. Unroll a convolution first."
        )
