"""The model as a pure function of its parameters and images, and what is refused about a model."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gilib.federated.noticed import SHARED, drawing_layer, draws_each_time, explained, preserved_randomness
from gilib.federated.simulation import Forward, Gradients
from gilib.federated.twice import twice_differentiable
from gilib.federated.update import Mode


def as_function(
    model: nn.Module, *, mode: Mode = "eval", draws: Mapping[str, Tensor] | None = None
) -> tuple[Forward, Gradients]:
    """The model as a pure function ``forward(parameters, images) -> logits``, and its trainable parameters.

    ``draws`` are what its random layers drew (see ``gilib.draws``); without them they are deterministic. Works on a
    ``working_copy``, whose errors it raises too. The function can be differentiated twice where PyTorch has a way to:
    attention is computed by its formula instead of a fused kernel. Raises ValueError for a model without trainable
    parameters.
    """
    module = working_copy(model, mode=mode)
    reference(module)
    parameters = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}

    def forward(current: Gradients, images: Tensor) -> Tensor:
        with twice_differentiable():
            return logits_of(torch.func.functional_call(module, {**(draws or {}), **current}, (images,)))

    return forward, parameters


def logits_of(output: object) -> Tensor:
    """The logits that a model returned: a tensor, or the ``logits`` of a dictionary or an object that has some.

    Raises ValueError for anything else, and beside auxiliary logits, which a client's loss would have to add.
    """
    fields = output if isinstance(output, Mapping) else getattr(output, "__dict__", {}) or _named(output)
    if isinstance(output, Tensor):
        return output
    logits = fields.get("logits") if isinstance(fields, Mapping) else None
    extra = [name for name, value in fields.items() if "aux" in str(name) and value is not None]
    if isinstance(logits, Tensor) and not extra:
        return logits
    got = f"auxiliary logits too ({', '.join(map(str, extra))})" if extra else f"a {type(output).__name__}"
    raise ValueError(
        f"the model must return a tensor of logits, or an object with one under 'logits'; it returns {got}. Wrap it in "
        "a module whose forward returns the logits that the loss is computed on."
    )


def _named(output: object) -> Mapping[str, object]:
    """The fields of a named tuple."""
    return output._asdict() if hasattr(output, "_asdict") else {}


def reference(model: nn.Module) -> Tensor:
    """A trainable parameter, which has the dtype and the device of the computation.

    Raises ValueError where there is none, and for a model without numbers (on the meta device, or lazy).
    """
    for name, value in model.named_parameters():
        if isinstance(value, nn.parameter.UninitializedParameter):
            raise ValueError(f"{name!r} has no shape yet: run one forward pass through the model first.")
        if value.device.type == "meta":
            raise ValueError(
                f"{name!r} is on the meta device and has no numbers: build or load the model on a real one."
            )
    for value in model.parameters():
        if value.requires_grad:
            return value
    raise ValueError("the model has no trainable parameters, so a client has no gradient to share.")


def working_copy(model: nn.Module, *, mode: Mode) -> nn.Module:
    """A copy of the model in the given mode, in which "train" makes batch norm use the batch and update nothing.

    Raises ValueError for an unknown mode, and for models that PyTorch cannot call with other parameters: scripted or
    traced ones, and those in a wrapper for several cards.
    """
    if mode not in ("eval", "train"):
        raise ValueError(f"mode must be 'eval' or 'train'; got {mode!r}.")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ValueError(f"the model is wrapped in {type(model).__name__}: pass model.module, which it wraps.")
    if any(isinstance(part, torch.jit.ScriptModule) for part in model.modules()):
        raise ValueError("the model was compiled by torch.jit: pass the Python module that it was made from.")
    module = copied(model).train(mode == "train")
    if mode == "train":
        use_batch_statistics(module)
    return module


def copied(model: nn.Module) -> nn.Module:
    """A deep copy of the model. Tensors that it computed and keeps, as the older weight_norm does, become numbers.

    Raises ValueError for a model that Python cannot copy.
    """
    computed = {
        id(value): value.detach().clone()
        for part in model.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(model, dict(computed))
    except Exception as error:  # deepcopy calls code of the model's own
        raise ValueError(
            f"the model cannot be copied ({explained(error)}), and the library never works on the original. Keep "
            "tensors of a graph, open files and locks out of it."
        ) from error


def use_batch_statistics(module: nn.Module) -> None:
    """Make the batch-norm layers of ``module`` normalize with the batch at hand, in either mode, and record nothing."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._NormBase):
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None


def checked_logits(forward: Forward, parameters: Gradients, images: Tensor) -> Tensor:
    """The logits (B, K) of images (B, C, H, W).

    Raises ValueError if the model does not take the images, returns something else than one row of logits an image, or
    draws at random while it runs: from PyTorch, NumPy or Python. The global random states stay as they are.
    """
    with preserved_randomness(images.device) as drawn:
        try:
            logits = logits_of(forward(parameters, images))
        except (RuntimeError, TypeError, IndexError, AttributeError, NotImplementedError, AssertionError) as error:
            cause = explained(error)
            verb = "take" if cause.startswith("the sizes") else "run on"
            raise ValueError(f"the model does not {verb} images of shape {tuple(images.shape)}: {cause}") from error
        sources = drawn()
        if sources - SHARED or (sources and draws_each_time(lambda: forward(parameters, images), images.device)):
            raise ValueError(
                f"the model draws at random in {drawing_layer(forward, parameters, images)}, from a global random "
                "state: its updates cannot be simulated. Use mode='eval' or a rate of zero, make sure that functional "
                "dropout gets training=self.training, or put the dropout in with gilib.defenses.model.dropout, whose "
                "draws belong to the client and can be searched for."
            )
    if logits.ndim != 2 or len(logits) != len(images):
        raise ValueError(
            f"the model must return logits of shape ({len(images)}, classes); got {tuple(logits.shape)}. "
            "Wrap it so that it returns one row of logits an image."
        )
    return logits
