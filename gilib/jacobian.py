"""How the gradient of a client changes with each of its pixels."""

import torch
from torch import Tensor

from gilib.data import Batch
from gilib.federated import (
    Client,
    as_function,
    as_targets,
    check_own_backward,
    checked_logits,
    explained,
    local_update,
)


def jacobian(client: Client, batch: Batch) -> tuple[Tensor, Tensor]:
    """The client's gradient as one vector g (m,), and J (m, B C H W), its derivative by the client's own pixels.

    Local steps and the mode of batch norm are those of the client; its defenses are not applied. Column k of J says how
    the gradient changes with pixel k. Takes B C H W passes and that many times m numbers of memory. Raises ValueError
    if images or labels do not fit the model, and for a model that cannot be differentiated twice.

    Taught in: iteration/limits (and, by hand, in iteration/training).
    """
    forward, parameters = as_function(client.model, mode=client.mode)
    images = batch.images.to(next(iter(parameters.values())))
    logits = checked_logits(forward, parameters, images)
    check_own_backward(forward, parameters, images)
    targets = as_targets(batch.labels, logits.shape[-1], dtype=logits.dtype).to(logits.device)

    def gradient(candidate: Tensor) -> Tensor:
        parts = local_update(forward, parameters, candidate, targets, loss=client.loss, local=client.local)
        return torch.cat([part.flatten() for part in parts.values()])

    # Forward through backward, twice backward: the derivative of the row product is the column product.
    try:
        shared, pull = torch.func.vjp(gradient, images)[:2]
        push = torch.func.vjp(lambda row: pull(row)[0], torch.zeros_like(shared))[1]
        pixels = torch.eye(images.numel(), device="cpu").to(images).reshape(-1, *images.shape)
        (columns,) = torch.func.vmap(push, chunk_size=256)(pixels)
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(f"the gradient of this model has no derivative by its images: {explained(error)}") from error
    return shared, columns.T
