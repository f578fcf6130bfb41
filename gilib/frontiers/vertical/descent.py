"""The authors' way to the first two shots: descent, one round at a time."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gilib.federated import seeded_generator


def descend(
    batches: Sequence[Sequence[int]],
    bias: Tensor,
    weight: Tensor,
    *,
    samples: int,
    iterations: int,
    rates: tuple[float, float] = (5e-3, 1e-2),
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """The first two shots of one party by descent: ``deltas`` (N, out) and inputs (N, in), both at once.

    ``bias`` (R, out) and ``weight`` (R, out, in) are the gradients of R rounds as they were sent, means over their
    ``batches``; the deltas are therefore those of a sample's loss divided by the batch size. Each iteration takes one
    round, in turns. Gradient descent moves the deltas of its samples along the slope of ``|sum deltas - bias|²``, Adam
    their inputs along that of ``|sum deltas inputsᵀ - weight|²``. Rates and starts are those of
    the authors' code.

    Source: Jin et al. (2021), the authors' code with its rounds in turns. Taught in: frontiers/vertical.
    """
    generator = seeded_generator(seed)
    deltas = 8e-4 * (2 * _uniform(samples, bias.shape[1], generator) - 1)
    inputs = 8e-2 * _uniform(samples, weight.shape[2], generator)
    mean, square = torch.zeros_like(inputs), torch.zeros_like(inputs)
    for step in range(iterations):
        turn = step % len(batches)
        chosen = torch.as_tensor(batches[turn])
        deltas[chosen] -= 2 * rates[0] * (deltas[chosen].sum(dim=0) - bias[turn])
        now = deltas[chosen]
        slope = 2 * now @ (now.T @ inputs[chosen] - weight[turn])
        mean[chosen] = 0.9 * mean[chosen] + 0.1 * slope
        square[chosen] = 0.999 * square[chosen] + 0.001 * slope.square()
        first, second = 1 - 0.9 ** (step + 1), 1 - 0.999 ** (step + 1)
        rate = rates[1] * math.sqrt(second) / first
        inputs[chosen] -= rate * (mean[chosen] / first) / ((square[chosen] / second).sqrt() + 1e-7)
    return deltas, inputs


def _uniform(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.rand(rows, columns, generator=generator, dtype=torch.float64, device="cpu")
