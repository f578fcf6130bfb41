"""What an attack refuses at the door, with an error that says what to do."""

import math
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn

from gilib.draws import seeded_generator
from gilib.federated import Update, by_tape, explained
from gilib.iteration.objective import Problem
from gilib.iteration.representation import Representation, vector_size
from gilib.iteration.signal import check_signal

# Copies of a candidate that the search holds: the best so far, the optimizer's state, temporaries.
CANDIDATE_COPIES = 20
# Copies of the parameters: the shared gradient, the candidate's, and what the second backward pass keeps.
PARAMETER_COPIES = 4


# Where Linux says what a container may use and uses, in the newer and the older form.
CONTAINER = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def check_updates(model: nn.Module, updates: Sequence[Update]) -> None:
    """Refuse updates that cannot be attacked together with this model: see ``IterationAttack.reconstruct_many``."""
    if not updates:
        raise ValueError("there is no update to attack: got an empty list.")
    buffers = {name for name, _ in model.named_buffers()}
    expected = {name: tuple(value.shape) for name, value in model.named_parameters() if value.requires_grad}
    first = updates[0]
    for number, update in enumerate(updates):
        if not isinstance(update, Update):
            raise ValueError(
                f"expected updates, got a {type(update).__name__}. Make one of another engine's with "
                "Update.from_gradients, Update.from_state_dicts or Update.from_arrays."
            )
        shapes = {name: tuple(value.shape) for name, value in update.gradients.items()}
        different = sorted(name for name in expected.keys() | shapes if expected.get(name) != shapes.get(name))
        if different:
            name = different[0]
            if name in buffers:
                raise ValueError(
                    f"update {number} holds the buffer {name!r}, which has no gradient. Take a whole state dict in "
                    "with Update.from_state_dicts."
                )
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
        check_signal(update, name=f"update {number}")
        if update.batch_size < 1:
            raise ValueError(f"update {number} has batch size {update.batch_size}; expected at least 1.")
        for agreed in ("batch_size", "image_shape", "local", "loss", "mode"):
            if getattr(update, agreed) != getattr(first, agreed):
                raise ValueError(
                    f"update {number} differs from update 0 in {agreed}: {getattr(update, agreed)!r} and "
                    f"{getattr(first, agreed)!r}. Attack the updates that agree on it together, the others in "
                    "another call."
                )


def check_responds(problem: Problem) -> None:
    """Refuse a model whose gradient does not depend on the image: raises ValueError if grey and noise give the same.

    So it is where activations have died out, or where the image is only looked up in a table.
    """
    noise = torch.rand(problem.image_shape, generator=seeded_generator(0), dtype=torch.float64, device="cpu")
    found = []
    for images in (torch.full_like(noise, 0.5), noise):
        try:
            found.append(_update_of(problem, images))
        except (RuntimeError, NotImplementedError) as error:
            raise ValueError(f"this model cannot be attacked: {explained(error)}") from error
    grey, noisy = found
    gap = torch.stack([(grey[name] - noisy[name]).norm() for name in grey]).norm()
    size = torch.stack([value.norm() for value in grey.values()]).norm()
    if gap <= 30 * torch.finfo(gap.dtype).eps * size:
        raise ValueError(
            "the gradient of this model does not depend on the image: a grey one and noise give the same, so there is "
            "nothing to match. Are activations zero (an untrained network in eval mode, ReLU units that died)?"
        )


def _update_of(problem: Problem, images: Tensor) -> dict[str, Tensor]:
    """The gradients of a client with these images, and the labels and draws of the first row."""
    candidate = problem.reference.new_zeros(problem.length)
    _, targets, _, draws = problem.known
    forward = problem.with_draws(candidate, {name: value[0] for name, value in draws.items()})
    soft = problem.soft_labels(candidate, targets[0])
    found = problem.simulate(forward, images.to(problem.reference), soft, by_tape)
    return {name: value.detach() for name, value in found.items()}


def check_memory(
    model: nn.Module,
    updates: Sequence[Update],
    representation: Representation,
    *,
    restarts: int,
    snapshots: int = 0,
    copies: int = 0,
) -> None:
    """Refuse a stack that cannot fit: raises MemoryError if a lower bound of what it needs exceeds the free memory.

    ``copies`` of every candidate are what the optimizer keeps beyond a few.
    """
    trainable = [value for value in model.parameters() if value.requires_grad]
    device, itemsize = trainable[0].device, trainable[0].element_size()
    shape = (updates[0].batch_size, *updates[0].image_shape)
    rows, size = len(updates) * restarts, max(vector_size(representation, shape), math.prod(shape))
    numbers = (
        PARAMETER_COPIES * sum(value.numel() for value in trainable) + (CANDIDATE_COPIES + copies + snapshots) * size
    )
    needed = rows * numbers * itemsize
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    if needed > free:
        raise MemoryError(
            f"{rows} candidates (victims x restarts) need at least {needed / 2**30:.1f} GiB and "
            f"{free / 2**30:.1f} GiB are free. Use fewer restarts, attack fewer victims in a call, or use float32."
        )


def free_memory() -> int:
    """Bytes of main memory that this process may still take: those of the machine, or of its container if fewer."""
    free = int(psutil.virtual_memory().available)
    for limit, used in CONTAINER:
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such file, or no limit ("max")
            continue
    return max(free, 0)
