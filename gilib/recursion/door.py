"""At the door of every recursion: model and update become float64 on the CPU, and what does not fit is refused.

The linear algebra of a recursion needs all digits and little time, wherever the client computed and in whatever dtype.
How precise the update was before is remembered: tolerances follow it.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from gilib.federated import Mode, Update, working_copy

HALVES = (torch.float16, torch.bfloat16)


def on_cpu(value: Tensor) -> Tensor:
    """A tensor without its graph, in float64 on the CPU."""
    return value.detach().to(torch.device("cpu"), torch.float64)


def double_model(model: nn.Module, *, mode: Mode = "eval") -> nn.Module:
    """A copy of the model in float64 on the CPU. Raises ValueError for a model without numbers, and as `working_copy`.

    Activations of the copy leave their input alone.
    """
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(value, nn.parameter.UninitializedParameter):
            raise ValueError(f"{name!r} has no shape yet: run one forward pass through the model first.")
        if value.device.type == "meta":
            raise ValueError(f"{name!r} is on the meta device and has no numbers: load the model on a real one.")
    working = working_copy(model, mode=mode).to(torch.device("cpu"), torch.float64)
    for part in working.modules():
        if hasattr(part, "inplace"):
            setattr(part, "inplace", False)  # noqa: B010 - the output of a layer must outlive its activation
    return working


def double_update(update: Update) -> Update:
    """The update with its gradients and labels on the CPU, in float64 what is no label."""
    labels = None if update.labels is None else update.labels.detach().to(torch.device("cpu"))
    return replace(
        update, gradients={name: on_cpu(value) for name, value in update.gradients.items()}, labels=labels, buffers=None
    )


def rounding_of(update: Update) -> float:
    """The relative error of an update's numbers: that of its dtype, or of the weights that it is a difference of."""
    eps = max((torch.finfo(value.dtype).eps for value in update.gradients.values()), default=0.0)
    stated = update.public.get("rounding", 0.0)
    return max(eps, stated if isinstance(stated, float) else 0.0)


def check_precise(update: Update) -> None:
    """Raise ValueError for half precision, which has too few digits to solve one layer from another's solution."""
    for name, value in update.gradients.items():
        if value.dtype in HALVES:
            raise ValueError(
                f"the gradient {name!r} is {value.dtype}, which has two or three digits: too few to solve equations "
                "that build on each other. Use phong, which divides only once, or search for the image."
            )


def check_numbers(update: Update) -> None:
    """Raise ValueError for what is no update, and for gradients that are no tensors or hold no numbers."""
    if not isinstance(update, Update):
        raise ValueError(
            f"expected an Update, got a {type(update).__name__}. Make one of another engine's with "
            "Update.from_gradients, Update.from_state_dicts or Update.from_arrays."
        )
    for name, value in update.gradients.items():
        if not isinstance(value, Tensor) or value.device.type == "meta":
            got = "a tensor without numbers (on the meta device)" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"expected the gradient {name!r} as a tensor of numbers, got {got}. Update.from_gradients takes "
                "those of other programs."
            )


def check_linear(update: Update) -> None:
    """Raise ValueError where the update is no weighted sum of gradients: with weight decay, Adam or AdamW."""
    local = update.local
    if local.optimizer != "sgd" or local.weight_decay:
        raise ValueError(
            f"expected an update that is a sum of gradients, by SGD without weight decay; got {local}. Search for the "
            "images with an attack that simulates the training (gilib.iteration)."
        )


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes what PyTorch's class of its kind does, from a weight that is a parameter of its own.

    A subclass may compute something else, with standardised weights for instance, and weight norm makes the weight from
    other parameters: a gradient is then no outer product.
    """
    kind = next((one for one in type(layer).__mro__ if one.__module__.startswith("torch.nn.modules.")), nn.Module)
    runs = ("forward", "_conv_forward")
    changed = any(getattr(type(layer), one, None) is not getattr(kind, one, None) or one in vars(layer) for one in runs)
    return not changed and (getattr(layer, "weight", None) is None or "weight" in layer._parameters)


def check_plain(name: str, layer: nn.Module) -> None:
    """Raise ValueError for a layer that is not plain."""
    if not is_plain(layer):
        raise ValueError(
            f"layer {name!r} ({type(layer).__name__}) computes with its weight in a way of its own, so its gradient "
            "does not give its input in closed form. Search for the image instead (gilib.iteration)."
        )


def is_one_step(update: Update) -> bool:
    """Whether the update is the plain gradient of the whole batch, or a clipped one."""
    local, samples = update.local, update.batch_size
    plain = local.optimizer == "sgd" and not local.weight_decay and not local.nesterov
    return plain and local.count(samples) == 1 and len(local.batches(samples)[0]) == samples


def shared(update: Update, model: nn.Module, key: str) -> Tensor:
    """The finite gradient of one parameter. Raises ValueError where it is not in the update, and says why."""
    parameter = dict(model.named_parameters()).get(key)
    value = update.gradients.get(key)
    if value is None and parameter is not None and not parameter.requires_grad:
        raise ValueError(
            f"parameter {key!r} is frozen, so the client shares no gradient of it, and this attack needs it. "
            "Search for the image instead (gilib.iteration)."
        )
    if parameter is None:
        raise ValueError(
            f"{key!r} is no parameter of its own: it is computed from others, or another layer shares it. Its gradient "
            "alone is needed."
        )
    expected = tuple(parameter.shape)
    if value is None or tuple(value.shape) != expected or not bool(value.isfinite().all()):
        got = "none" if value is None else f"{tuple(value.shape)}, finite: {bool(value.isfinite().all())}"
        raise ValueError(
            f"expected a finite gradient {key!r} of shape {expected} in the update; got {got}. "
            "Pass the model that the client trained."
        )
    return value
