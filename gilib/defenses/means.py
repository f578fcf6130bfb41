"""Means over clients that hold different numbers of samples, and what members of a mean have to agree on."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from gilib.federated import Loss, Update

__all__ = ["agreed", "summed_weight", "weighed"]


def weighed(update: Update, samples: Sequence[int]) -> Update:
    """The update as a member of a mean over samples: gradients times ``w = B N / sum(samples)``, and ``weight=w``.

    B are the update's samples, ``samples`` the numbers of all N members, its own among them. The plain mean of the
    members' gradients, all that a protocol for sums can give, is then the mean over samples. Raises ValueError for
    numbers without the update's own, and for an update that was weighed before.

    Source: McMahan et al. (2017), algorithm 1, for the weights.
    """
    counts = list(samples)
    if update.batch_size not in counts or min(counts) < 0 or sum(counts) == 0:
        raise ValueError(
            f"expected the numbers of samples of all members, this one's {update.batch_size} among them; got {counts}."
        )
    if update.weight != 1:
        raise ValueError(f"the update was weighed before, by {update.weight}: pass the one that the client made.")
    weight = update.batch_size * len(counts) / sum(counts)
    gradients = {name: weight * value for name, value in update.gradients.items()}
    return replace(update, gradients=gradients, weight=weight)


def agreed(members: Sequence[Update], *, clients: Sequence[int] | None = None) -> Update:
    """What the mean of the ``members`` is an update of: all of them together, without gradients, labels and buffers.

    ``batch_size`` is the sum. ``clients`` says of how many each member is itself the mean (one). Raises ValueError
    without members, where loss, local training, mode, image shape or parameters differ, and where the weights are not
    in proportion to the numbers of samples, so that no multiple of the sum is a mean over samples.
    """
    if not members:
        raise ValueError("expected the updates of at least one member, got none.")
    first = members[0]
    for member in members[1:]:
        _check_alike(first, member)
    _check_weights(members, [1] * len(members) if clients is None else clients)
    total = sum(member.batch_size for member in members)
    return replace(first, gradients={}, batch_size=total, labels=None, buffers=None, weight=1.0)


def summed_weight(members: Sequence[Update]) -> float:
    """By what the sum of the members' gradients is divided, so that it is their mean over samples.

    As many as there are, unless one was ``weighed`` for a mean in which others are missing.
    """
    return sum(member.weight for member in members)


def _check_alike(one: Update, other: Update) -> None:
    """Refuse updates that were trained differently."""
    shapes = [[(name, tuple(value.shape)) for name, value in update.gradients.items()] for update in (one, other)]
    pairs = {
        "local": (one.local, other.local),
        "mode": (one.mode, other.mode),
        "image_shape": (one.image_shape, other.image_shape),
        "parameters": (shapes[0], shapes[1]),
    }
    for name, (mine, theirs) in pairs.items():
        if mine != theirs:
            raise ValueError(
                f"the members of a mean must have trained alike, and {name} differs: {mine} and {theirs}. Average only "
                "updates of one model and one agreed training."
            )
    if not _same_loss(one.loss, other.loss):
        raise ValueError(
            f"the members of a mean must have trained alike, and loss differs: {_named(one.loss)} and "
            f"{_named(other.loss)}. Give all clients the same loss."
        )


def _named(loss: Loss) -> str:
    return str(getattr(loss, "__qualname__", loss))


def _same_loss(one: Loss, other: Loss) -> bool:
    """Whether two losses are one function, or modules of one kind with the same settings."""
    if not isinstance(one, nn.Module) or not isinstance(other, nn.Module):
        return one is other or bool(one == other)
    mine, theirs = ({**_settings(loss), **loss.state_dict()} for loss in (one, other))
    return type(one) is type(other) and mine.keys() == theirs.keys() and all(_equal(mine[k], theirs[k]) for k in mine)


def _settings(module: nn.Module) -> dict[str, object]:
    """The public attributes of a module: its settings."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


def _equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return bool(one == other)


def _check_weights(members: Sequence[Update], clients: Sequence[int]) -> None:
    """Refuse weights that are not in proportion to samples: of equal numbers, weights that differ."""
    weights = [member.weight * count for member, count in zip(members, clients, strict=True)]
    sizes = [member.batch_size for member in members]
    total, samples = sum(weights), sum(sizes)
    if not all(0 <= weight < math.inf for weight in weights) or total == 0:
        raise ValueError(f"expected weights that are finite and not negative, and not all zero; got {weights}.")
    off = max(abs(weight * samples - size * total) for weight, size in zip(weights, sizes, strict=True))
    if off > 1e-6 * total * samples:
        numbers = " and ".join(str(size) for size in sorted(set(sizes))[:4])
        held = f"members hold different numbers of samples ({numbers})" if len(set(sizes)) > 1 else "weights differ"
        raise ValueError(
            f"{held}, and their plain mean is not the mean over samples with weights "
            f"{[round(member.weight, 6) for member in members[:4]]}. Upload weighed(update, samples) of "
            "gilib.defenses.means, with the numbers of samples of all members."
        )
