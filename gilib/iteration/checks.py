"""What an attack refuses at the door, with an error that says what to do."""

import math
from collections.abc import Sequence

import psutil
import torch
from torch import nn

from gilib.federated import Update
from gilib.iteration.representation import Representation, vector_size

# Copies of a candidate that the search holds: the best so far, the optimizer's state, temporaries.
CANDIDATE_COPIES = 20
# Copies of the parameters: the shared gradient, the candidate's, and what the second backward pass keeps.
PARAMETER_COPIES = 4


def check_updates(model: nn.Module, updates: Sequence[Update]) -> None:
    """Refuse updates that cannot be attacked together with this model: see ``IterationAttack.reconstruct_many``."""
    if not updates:
        raise ValueError("there is no update to attack: got an empty list.")
    expected = {name: tuple(value.shape) for name, value in model.named_parameters() if value.requires_grad}
    first = updates[0]
    for number, update in enumerate(updates):
        shapes = {name: tuple(value.shape) for name, value in update.gradients.items()}
        different = sorted(name for name in expected.keys() | shapes if expected.get(name) != shapes.get(name))
        if different:
            name = different[0]
            raise ValueError(
                f"update {number} belongs to another model: parameter {name!r} has shape "
                f"{expected.get(name, 'none')} in the model and {shapes.get(name, 'none')} in the update. "
                "Pass the model that the client trained."
            )
        broken = sorted(name for name, value in update.gradients.items() if not value.isfinite().all())
        if broken:
            raise ValueError(
                f"update {number} holds NaN or infinite gradients in {broken}; nothing can be matched to them."
            )
        if update.batch_size < 1:
            raise ValueError(f"update {number} has batch size {update.batch_size}; expected at least 1.")
        for agreed in ("batch_size", "image_shape", "local", "loss", "mode"):
            if getattr(update, agreed) != getattr(first, agreed):
                raise ValueError(
                    f"update {number} differs from update 0 in {agreed}: {getattr(update, agreed)!r} and "
                    f"{getattr(first, agreed)!r}. Attack the updates that agree on it together, the others in "
                    "another call."
                )


def check_memory(
    model: nn.Module, updates: Sequence[Update], representation: Representation, *, restarts: int, snapshots: int = 0
) -> None:
    """Refuse a stack that cannot fit: raises MemoryError if a lower bound of what it needs exceeds the free memory."""
    trainable = [value for value in model.parameters() if value.requires_grad]
    device, itemsize = trainable[0].device, trainable[0].element_size()
    shape = (updates[0].batch_size, *updates[0].image_shape)
    rows, size = len(updates) * restarts, max(vector_size(representation, shape), math.prod(shape))
    numbers = PARAMETER_COPIES * sum(value.numel() for value in trainable) + (CANDIDATE_COPIES + snapshots) * size
    needed = rows * numbers * itemsize
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"{rows} candidates (victims x restarts) need at least {needed / 2**30:.1f} GiB and "
            f"{free / 2**30:.1f} GiB are free. Use fewer restarts, attack fewer victims in a call, or use float32."
        )
