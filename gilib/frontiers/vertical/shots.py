"""CAFE's first two shots as what they are, linear systems: batches that overlap in known ways are equations.

Let M be the matrix of memberships (rounds, samples). Times the batch size, the gradient of round t is the sum of what
its samples would have sent alone. So for every parameter, ``M (own gradients) = B (gradients of the rounds)``.
"""

import torch
from torch import Tensor

from gilib.recursion import LayerReport

TOLERANCE = 1e-9
"""Singular values below this times the largest count as zero."""


def first_shot(
    membership: Tensor, sums: Tensor, *, name: str = "first shot", tolerance: float = TOLERANCE
) -> tuple[Tensor, LayerReport]:
    """What each sample adds to a gradient, (N, ...), from the ``sums`` (R, ...) over the batches of R rounds.

    The least-squares solution of ``membership @ x = sums``, the shortest one where memberships (R, N) do not separate
    the samples. With the bias gradients of a layer as sums these are the derivatives of every sample's loss by the
    layer's output; with the gradients of all parameters, the gradient that each sample would have sent alone. The
    report counts N unknowns an entry of ``sums``. Raises ValueError where the numbers of rounds differ.

    Source: Jin et al. (2021), solved instead of descended. Taught in: frontiers/vertical.

    >>> pairs = torch.tensor([[1.0, 1, 0], [0, 1, 1], [1, 0, 1]])
    >>> first_shot(pairs, pairs @ torch.tensor([[1.0], [2], [-3]]))[0].flatten().round()
    tensor([ 1.,  2., -3.], dtype=torch.float64)
    """
    if len(membership) != len(sums):
        raise ValueError(f"expected the sums of {len(membership)} rounds, got {len(sums)}.")
    matrix, right = membership.double(), sums.double().flatten(1)
    found, rank, condition = _solved(matrix, right, tolerance)
    residual = _unexplained(matrix @ found, right)
    columns = right.shape[1]
    report = LayerReport(name, matrix.shape[1] * columns, right.numel(), rank * columns, residual, condition)
    return found.reshape(-1, *sums.shape[1:]), report


def second_shot(
    membership: Tensor, deltas: Tensor, sums: Tensor, *, name: str = "second shot", tolerance: float = TOLERANCE
) -> tuple[Tensor, LayerReport]:
    """What entered a fully connected layer, (N, in), from the ``sums`` (R, out, in) of its weight gradients.

    ``deltas`` (N, out) are those of the first shot. The least-squares solution h of ``sum_i M[t, i] deltas_i h_iᵀ =
    sums_t`` over all rounds t. Its normal equations have one matrix for all columns, ``(MᵀM) * (deltas deltasᵀ)``,
    (N, N). ``condition`` is that of this matrix. Raises ValueError where the numbers of rounds differ.

    Source: Jin et al. (2021), solved instead of descended. Taught in: frontiers/vertical.
    """
    if len(membership) != len(sums):
        raise ValueError(f"expected the sums of {len(membership)} rounds, got {len(sums)}.")
    M, D, W = membership.double(), deltas.double(), sums.double()
    normal = (M.T @ M) * (D @ D.T)
    pulled = torch.einsum("ti,toj->ioj", M, W)
    right = torch.einsum("io,ioj->ij", D, pulled)
    found, rank, condition = _solved(normal, right, tolerance)
    left = torch.einsum("ti,io,ij->toj", M, D, found)
    columns = W.shape[2]
    report = LayerReport(name, found.numel(), W.numel(), rank * columns, _unexplained(left, W), condition)
    return found, report


def _solved(matrix: Tensor, right: Tensor, tolerance: float) -> tuple[Tensor, int, float]:
    """The shortest least-squares solution, the numerical rank and the condition of what counts."""
    left, values, directions = torch.linalg.svd(matrix, full_matrices=False)
    rank = int((values > tolerance * values[0]).sum())
    found = directions[:rank].T @ ((left[:, :rank].T @ right) / values[:rank, None])
    return found, rank, float(values[0] / values[rank - 1]) if rank else float("inf")


def _unexplained(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(torch.finfo(expected.dtype).tiny))
