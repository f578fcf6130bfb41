"""A model that moves: the server knows every model it sent, so it can compute what the moves changed."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from gilib.federated import as_targets
from gilib.frontiers.vertical.attack import Shape, Sums, from_sums, sums_of
from gilib.frontiers.vertical.federation import Vertical, VerticalUpdate
from gilib.frontiers.vertical.schedules import membership
from gilib.recursion import Reconstruction
from gilib.recursion.door import double_model


def follow(
    verticals: Sequence[Vertical],
    updates: Sequence[VerticalUpdate],
    *,
    samples: int,
    shape: Shape,
    corrections: int = 4,
) -> Reconstruction:
    """CAFE on a model that moves: ``verticals`` has the federation of every round, as the server sent it.

    Starts with `cafe` as if all rounds had the first model. Then, ``corrections`` times: compute from the images and
    labels found so far what each sample would have sent in its rounds and with the first model, take the difference off
    the sums, and solve again. Each time the error shrinks by as much as the model moved, unless it moved too far for
    the first guess. The loss must be a mean over samples. Raises ValueError as `cafe` does, for another number of
    federations than rounds, and where no labels are found.

    Source: ours, on top of Jin et al. (2021). Taught in: frontiers/vertical.
    """
    if len(verticals) != len(updates) or not updates:
        raise ValueError(f"expected the federation of each of {len(updates)} rounds, got {len(verticals)}.")
    first, matrix = verticals[0], membership([update.indices for update in updates], samples)
    sums = sums_of(first, updates, shape)
    found = from_sums(first, updates, matrix, sums, shape=shape)
    for _ in range(corrections):
        moves = _moves(verticals, updates, found, sums)
        pairs = zip(sums, moves, strict=True)
        still = [replace(one, bias=one.bias - bias, weight=one.weight - weight) for one, (bias, weight) in pairs]
        found = replace(from_sums(first, updates, matrix, still, shape=shape), labels=found.labels)
    return found


def _moves(
    verticals: Sequence[Vertical], updates: Sequence[VerticalUpdate], found: Reconstruction, sums: Sequence[Sums]
) -> list[tuple[Tensor, Tensor]]:
    """By how much the moves of the model changed the sums of every party, if the samples are those that were found."""
    if found.labels is None:
        raise ValueError("no labels were found: the top must end in a fully connected layer with bias.")
    names = [one.dense.name for one in sums]
    images = found.images.clamp(0, 1)
    at_first = _signals(verticals[0], names, images, found.labels)
    changes = []
    for vertical, update in zip(verticals, updates, strict=True):
        chosen = torch.tensor(update.indices)
        now = _signals(vertical, names, images[chosen], found.labels[chosen])
        then = [(deltas[chosen], inputs[chosen]) for deltas, inputs in at_first]
        changes.append([(d.sum(0) - e.sum(0), d.T @ h - e.T @ g) for (d, h), (e, g) in zip(now, then, strict=True)])
    pairs = [zip(*party, strict=True) for party in zip(*changes, strict=True)]
    return [(torch.stack(bias), torch.stack(weight)) for bias, weight in pairs]


def _signals(vertical: Vertical, names: Sequence[str], images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For every party the derivatives of each sample's own loss by its dense layer, and what enters that layer."""
    model: nn.Module = vertical.working[0]
    if {(value.dtype, value.device.type) for value in model.parameters()} != {(torch.float64, "cpu")}:
        model = double_model(model)
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def keep(number: int, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen[number] = (output, inputs[0].detach())

    layers = [model.get_submodule(f"parties.{number}.{name}") for number, name in enumerate(names)]
    hooks = [
        layer.register_forward_hook(lambda _, inputs, output, number=number: keep(number, inputs, output))
        for number, layer in enumerate(layers)
    ]
    with torch.enable_grad():
        logits = model(images)
        value = len(images) * vertical.loss(logits, as_targets(labels, logits.shape[1]).to(logits))
        deltas = torch.autograd.grad(value, [seen[number][0] for number in range(len(names))])
    for hook in hooks:
        hook.remove()
    return [(delta, seen[number][1]) for number, delta in enumerate(deltas)]
