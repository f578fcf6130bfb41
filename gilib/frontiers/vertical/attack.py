"""CAFE: the columns of every party from the gradients of many rounds whose batches overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gilib.chain import last_linear
from gilib.federated import error_scale
from gilib.frontiers.vertical.federation import Vertical, VerticalUpdate
from gilib.frontiers.vertical.front import Dense, first_dense, solve_front
from gilib.frontiers.vertical.schedules import membership
from gilib.frontiers.vertical.search import Search, search_front
from gilib.frontiers.vertical.shots import first_shot, second_shot
from gilib.recursion import Reconstruction
from gilib.recursion.door import double_model, on_cpu

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Sums:
    """A party's first fully connected layer, and its gradients times the batch size: (R, out) and (R, out, in)."""

    dense: Dense
    bias: Tensor
    weight: Tensor


def cafe(
    vertical: Vertical,
    updates: Sequence[VerticalUpdate],
    *,
    samples: int,
    shape: Shape,
    memberships: Tensor | None = None,
    search: Search | None = None,
) -> Reconstruction:
    """Recover all ``samples`` of a vertical federation, as images (N, C, H, W) of ``shape``, from its rounds.

    Three linear systems a party: what each sample's loss says to the first fully connected layer, what entered it, and
    the columns that made it. Uses what the server has: the models, the indices and the gradients. ``memberships`` (R,
    N) replace the indices that the updates state. With ``search`` the last step is a search, which passes any layers.
    The labels come from the top's last bias, where it has one and the loss is a cross-entropy.

    The models are taken to stand still over the rounds; where they move, the answer is off by as much. ``layers`` has
    three reports a party. Where memberships do not separate the samples, or the first layers lose something, they say
    so, ``exact`` is False, and the images are a guess. That is no proof that nothing leaks.

    Raises ValueError for no rounds, rounds of different batch sizes or of another federation, columns that no party or
    several hold, and as `first_dense` and `solve_front` do.

    Known as: CAFE (attack). Needs rounds of a vertical federation with known batches that overlap.
    Source: Jin et al. (2021), CAFE; the first two shots solved instead of descended. Taught in: frontiers/vertical.
    """
    matrix = _memberships(updates, samples, memberships)
    return from_sums(vertical, updates, matrix, sums_of(vertical, updates, shape), shape=shape, search=search)


def from_sums(
    vertical: Vertical,
    updates: Sequence[VerticalUpdate],
    matrix: Tensor,
    sums: Sequence[Sums],
    *,
    shape: Shape,
    search: Search | None = None,
) -> Reconstruction:
    """The three shots on given sums, which `follow` corrects for the way of the model."""
    parts, reports = [], []
    for number, (place, one) in enumerate(zip(vertical.places(shape), sums, strict=True)):
        name, part = f"party {number}", (place.shape[0], place.shape[1], place.shape[2])
        deltas, first = first_shot(matrix, one.bias, name=f"{name}, first shot")
        inputs, second = second_shot(matrix, deltas, one.weight, name=f"{name}, second shot")
        if search is None:
            found, more = solve_front(one.dense, part, inputs, name=f"{name}, third shot")
        else:
            found, last = search_front(one.dense, part, inputs, search, name=f"{name}, third shot")
            more = [last]
        parts.append(found)
        reports += [first, second, *more]
    images = vertical.joined(parts, shape)
    return Reconstruction(images, _labels(vertical, updates, matrix), tuple(reports))


def sums_of(vertical: Vertical, updates: Sequence[VerticalUpdate], shape: Shape) -> list[Sums]:
    """What the rounds say about the first fully connected layer of every party, for images of ``shape``.

    Raises ValueError as `cafe` does.

    Taught in: frontiers/vertical.
    """
    found = []
    for number, (party, place) in enumerate(zip(vertical.parties, vertical.places(shape), strict=True)):
        dense = first_dense(double_model(party.model), (place.shape[0], place.shape[1], place.shape[2]))
        kinds = [_sums(updates, number, f"{dense.name}.{kind}", dense) for kind in ("bias", "weight")]
        found.append(Sums(dense, *kinds))
    return found


def _memberships(updates: Sequence[VerticalUpdate], samples: int, given: Tensor | None) -> Tensor:
    sizes = {len(update.indices) for update in updates}
    if len(sizes) != 1:
        raise ValueError(f"expected one or more rounds of one batch size, got sizes {sorted(sizes)}.")
    matrix = membership([update.indices for update in updates], samples) if given is None else given.double()
    if matrix.shape != (len(updates), samples):
        raise ValueError(f"expected memberships of shape {(len(updates), samples)}, got {tuple(matrix.shape)}.")
    return matrix


def _sums(updates: Sequence[VerticalUpdate], number: int, name: str, dense: Dense) -> Tensor:
    """The gradients of one parameter, times the batch size, a row a round."""
    like = dense.layer.weight if name.endswith("weight") else dense.layer.bias
    for update in updates:
        got = update.gradients[number].get(name) if number < len(update.gradients) else None
        if got is None or got.shape != like.shape or not got.isfinite().all():
            raise ValueError(
                f"expected a finite gradient {name!r} of shape {tuple(like.shape)} from party {number} in every round; "
                f"got {'none' if got is None else tuple(got.shape)}. Pass the federation that made the rounds."
            )
    return torch.stack([len(update.indices) * on_cpu(update.gradients[number][name]) for update in updates])


def _labels(vertical: Vertical, updates: Sequence[VerticalUpdate], matrix: Tensor) -> Tensor | None:
    """A sample's own gradient of the last bias is p - y for cross-entropy: negative at the label, nowhere else."""
    try:
        name = f"{last_linear(vertical.top)}.bias"
    except ValueError:  # the logits come from elsewhere
        return None
    rounds = [update.top.get(name) for update in updates]
    known = [len(update.indices) * on_cpu(one) for update, one in zip(updates, rounds, strict=True) if one is not None]
    if len(known) < len(updates) or error_scale(vertical.loss, len(known[0])) is None:
        return None
    return first_shot(matrix, torch.stack(known))[0].argmin(dim=1)
