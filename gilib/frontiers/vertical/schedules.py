"""Which samples a round is about: ways to plan it, and the matrix of memberships that decides what is learnt."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gilib.federated import seeded_generator


def drawn(samples: int, size: int, rounds: int, *, seed: int = 0) -> list[Tensor]:
    """``rounds`` batches of ``size`` of the ``samples``, each drawn anew. Raises ValueError as `partition` does."""
    _check(samples, size)
    generator = seeded_generator(seed, 0)
    return [torch.randperm(samples, generator=generator)[:size] for _ in range(rounds)]


def reshuffled(samples: int, size: int, rounds: int, *, seed: int = 0) -> list[Tensor]:
    """``rounds`` batches in epochs, as data loaders make them: all samples once, then all again in another order.

    An epoch leaves out what does not fill a batch. Raises ValueError as `partition` does.
    """
    _check(samples, size)
    generator, count = seeded_generator(seed, 1), samples // size
    batches: list[Tensor] = []
    while len(batches) < rounds:
        batches += list(torch.randperm(samples, generator=generator)[: count * size].split(size))
    return batches[:rounds]


def partition(samples: int, size: int, rounds: int, *, seed: int = 0) -> list[Tensor]:
    """``rounds`` batches of a partition that stays: shuffled once, then the same batches in every epoch.

    Raises ValueError for a batch that is empty or larger than the number of samples.
    """
    _check(samples, size)
    order = torch.randperm(samples, generator=seeded_generator(seed, 2))
    blocks = order[: samples // size * size].split(size)
    return [blocks[turn % len(blocks)] for turn in range(rounds)]


def membership(batches: Sequence[Sequence[int] | Tensor], samples: int) -> Tensor:
    """The matrix (rounds, samples) in float64 with a 1 where a sample is in the batch of a round.

    Raises ValueError for an index that comes twice in a batch, or is none of the samples.

    Source: the idea of Jin et al. (2021). Taught in: frontiers/vertical.

    >>> membership([[0, 1], [1, 2]], 3)
    tensor([[1., 1., 0.],
            [0., 1., 1.]], dtype=torch.float64)
    """
    matrix = torch.zeros(len(batches), samples, dtype=torch.float64, device="cpu")
    for row, batch in zip(matrix, batches, strict=True):
        chosen = [int(i) for i in torch.as_tensor(batch).tolist()]
        if len(set(chosen)) < len(chosen) or not all(0 <= i < samples for i in chosen):
            raise ValueError(f"expected indices from 0 to {samples - 1}, each once in a batch; got {chosen}.")
        row[chosen] = 1
    return matrix


def _check(samples: int, size: int) -> None:
    if not 1 <= size <= samples:
        raise ValueError(f"expected batches of 1 to {samples} samples, got {size}.")
