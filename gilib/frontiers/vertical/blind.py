"""Memberships that nobody told: sums over batches show them, as columns of zeros and ones in the space that they span.

The sums ``G = M D`` of many rounds lie in the space of the columns of M. A column of zeros and ones in that space is no
accident, and independent component analysis finds directions that look like one. Each is then rounded and checked.
"""

import torch
from torch import Tensor

from gilib.federated import seeded_generator

_IN_SPACE = 1e-6


def find_memberships(
    sums: Tensor, *, samples: int, size: int, seed: int = 0, starts: int = 10, iterations: int = 200
) -> Tensor:
    """The matrix of memberships (R, N) from the ``sums`` (R, ...) of R rounds alone, its columns in no order.

    ``sums`` are gradients times the batch ``size``, all that a round sent if possible: they must have rank N, the
    number of ``samples``. A column is accepted if it lies in the space of the sums up to rounding, so that noise or a
    model that moves leave nothing to accept. Independent component analysis is started up to ``starts`` times.

    Raises ValueError for batches of half of the samples or more, whose complement looks the same; for sums of another
    rank than N; and where not all columns were found, with their number: more rounds help.

    Known as: gradient disaggregation (attack). Needs sums of many rounds with a model that stands still.
    Source: the idea of Lam et al. (2021), who reconstruct who took part from sums and summary statistics. Ours needs no
    statistics. Taught in: frontiers/vertical.
    """
    if not 1 <= size < samples / 2:
        raise ValueError(f"expected batches of fewer than half of the {samples} samples, got {size}.")
    basis = _space(sums.double().flatten(1), 1e-9)
    if basis.shape[1] != samples:
        raise ValueError(
            f"the sums of {len(sums)} rounds have rank {basis.shape[1]}, where {samples} samples make it {samples}. "
            "Collect more rounds, give all gradients, or another number of samples; noise makes the rank full."
        )
    ones, found = basis.new_ones(1, len(basis)), basis.new_zeros(0, len(basis))
    for start in range(starts):
        left = _space(_without(basis, torch.cat([ones, found])), 1e-6) * len(basis) ** 0.5
        if left.shape[1] == 0:
            break
        candidates = _independent(left, seeded_generator(seed, start), 2 + start % 2, iterations)
        found = torch.unique(torch.cat([found, _binary(candidates, basis, size / samples)]), dim=0)
    last = size - found.sum(dim=0)
    if len(found) != samples - 1 or not torch.isin(last, ones.new_tensor([0.0, 1.0])).all():
        raise ValueError(
            f"{len(found)} of {samples} columns of memberships were found in {len(sums)} rounds. Collect more rounds, "
            "or give more starts."
        )
    return torch.cat([found, last[None]]).T


def _independent(basis: Tensor, generator: torch.Generator, power: int, iterations: int) -> Tensor:
    """Directions (R, k) of a white basis (R, k) far from Gaussian: by skewness (power 2) or by flatness (3)."""
    start = torch.randn(basis.shape[1], basis.shape[1], generator=generator, dtype=torch.float64, device="cpu")
    turn = torch.linalg.qr(start)[0]
    for _ in range(iterations):
        y = basis @ turn.T
        moved = (y**power).T @ basis / len(y) - power * (y ** (power - 1)).mean(dim=0)[:, None] * turn
        left, _, right = torch.linalg.svd(moved)
        turn, last = left @ right, turn
        if (1 - (turn * last).sum(dim=1).abs()).max() < 1e-10:
            break
    return basis @ turn.T


def _binary(candidates: Tensor, basis: Tensor, share: float) -> Tensor:
    """The columns of zeros and ones, as rows (m, R), that lie in the space and near a candidate of either sign."""
    rows = []
    for y in (candidates, -candidates):
        column = (y > (y.amax(dim=0) + y.amin(dim=0)) / 2).double()
        for _ in range(10):
            column = (basis @ (basis.T @ column) > 0.5).double()
        outside = (column - basis @ (basis.T @ column)).norm(dim=0)
        kept = (outside < _IN_SPACE * len(basis) ** 0.5) & (column.sum(dim=0) > 0)
        kept &= (column.mean(dim=0) - share).abs() < (column.mean(dim=0) - (1 - share)).abs()  # no complement
        rows.append(column[:, kept].T)
    return torch.cat(rows)


def _without(basis: Tensor, rows: Tensor) -> Tensor:
    """The basis (R, k) less its part along the ``rows`` (m, R)."""
    known = torch.linalg.qr(rows.T)[0]
    return basis - known @ (known.T @ basis)


def _space(matrix: Tensor, tolerance: float) -> Tensor:
    """An orthonormal basis (R, rank) of the columns of a matrix (R, ...)."""
    left, values, _ = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, values > max(tolerance * float(values[0]), 1e-12)]
