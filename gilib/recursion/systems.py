"""The linear systems of one layer: what its gradient and its output say about its input.

Let ``z = W * x`` be the layer and ``k`` the derivative of the loss by z. Once k and z are known, x meets two kinds of
linear equations. *Gradient constraints*: ``∇W`` is k correlated with x, the same matrix for each channel of x. *Weight
constraints*: ``W * x = z``. Zero padding gives no third kind here: what is known to be zero is no unknown.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from gilib.federated import seeded_generator
from gilib.recursion.network import LayerShape
from gilib.recursion.reconstruction import LayerReport


def gradient_matrix(layer: LayerShape, k: Tensor) -> Tensor:
    """The matrix (O kh kw, H W) that maps one channel of the input to its part of ``∇W``, for k (O, H', W').

    Row (o, i, j) holds k[o] as a picture, spread by the stride and shifted by (i, j).

    Source: Zhu & Blaschko (2021). Taught in: recursion/rgap.
    """
    kernel = layer.weight.shape[2:]
    shifts = torch.eye(kernel.numel(), dtype=k.dtype, device=k.device).reshape(1, kernel.numel(), *kernel)
    return _transposed(layer, k[:, None], shifts).flatten(0, 1).flatten(1)


def weight_matrix(layer: LayerShape, basis: Tensor) -> Tensor:
    """The matrix (O H' W', C m) of ``x -> W * x`` for inputs whose channels are combinations of ``basis`` (m, H, W).

    Taught in: recursion/rgap.
    """
    outputs, channels = layer.weight.shape[:2]
    filters = layer.weight.flatten(0, 1)[:, None]
    answers = conv2d(basis[:, None], filters, stride=layer.stride, padding=layer.padding).flatten(2)
    return answers.unflatten(1, (outputs, channels)).permute(1, 3, 2, 0).reshape(-1, channels * len(basis))


def output(layer: LayerShape, x: Tensor) -> Tensor:
    """``W * x`` without the bias, (O, H', W')."""
    return conv2d(x[None], layer.weight, stride=layer.stride, padding=layer.padding)[0]


def pull_back(layer: LayerShape, k: Tensor) -> Tensor:
    """The derivative of the loss by the input (C, H, W), from that by the output, k (O, H', W')."""
    return _transposed(layer, k[None], layer.weight)[0]


def solve_layer(
    layer: LayerShape, *, k: Tensor, gradient: Tensor, z: Tensor | None, tolerance: float
) -> tuple[Tensor, LayerReport]:
    """The input (C, H, W) of a layer, from its weight's ``gradient`` and its output ``z`` (O, H', W') less the bias.

    The gradient constraints come first: one small singular value decomposition serves all channels, and where it has
    full rank the weight constraints only serve as a check. Directions whose singular value is below ``tolerance`` times
    the largest stay open, and the weight constraints are solved for those alone. Directions that both leave open get
    zero: the answer is then the shortest one, a guess.

    The report counts the equations that were used. Its ``residual`` is over all: the norm of ``∇W`` left unexplained
    relative to that of ``∇W``, or the same of z, whichever is larger. ``condition`` is that of the worse of the two
    systems; for the second one it may be an estimate by power iteration. ``z=None`` stands for an unknown output.

    Source: Zhu & Blaschko (2021), with their constraints and our order. Taught in: recursion/rgap.
    """
    matrix, channels = gradient_matrix(layer, k), layer.inputs[0]
    shared = gradient.reshape(layer.weight.shape).movedim(1, -1).reshape(-1, channels)
    left, values, right = torch.linalg.svd(matrix, full_matrices=matrix.shape[0] < matrix.shape[1])
    rank = int((values > tolerance * values[0]).sum())
    x = right[:rank].T @ ((left[:, :rank].T @ shared) / values[:rank, None])
    x = x.T.reshape(layer.inputs)
    equations, found, condition = shared.numel(), rank * channels, _ratio(values[:rank])
    free = right[rank:].reshape(-1, *layer.inputs[1:])
    if len(free) and z is not None:
        system = weight_matrix(layer, free)
        steps, more, ratio = least_squares(system, (z - output(layer, x)).flatten(), tolerance)
        x = x + torch.einsum("cm,mhw->chw", steps.reshape(channels, -1), free)
        equations, found, condition = equations + len(system), found + more, max(condition, ratio)
    residual = _unexplained(matrix @ x.flatten(1).T, shared)
    if z is not None:
        residual = max(residual, _unexplained(output(layer, x), z))
    return x, LayerReport(layer.name, layer.unknowns, equations, found, residual, condition)


def least_squares(matrix: Tensor, right: Tensor, tolerance: float) -> tuple[Tensor, int, float]:
    """The shortest least-squares solution of ``matrix @ x = right``, the numerical rank, and the condition.

    A Cholesky factor of the normal equations is fast; iterative refinement brings its answer to rounding as long as the
    condition is moderate. Where it is not, or where equations are missing, a singular value decomposition decides.
    """
    if matrix.shape[0] >= matrix.shape[1]:
        normal = torch.from_numpy(matrix.numpy().T @ matrix.numpy())  # NumPy knows that this is symmetric
        factor, failed = torch.linalg.cholesky_ex(normal)
        condition = _condition(normal, factor) if int(failed) == 0 else torch.inf
        if condition < 1e5:
            x = torch.zeros_like(matrix[0])
            for _ in range(3):
                x = x + torch.cholesky_solve((matrix.T @ (right - matrix @ x))[:, None], factor)[:, 0]
            return x, len(x), condition
    left, values, directions = torch.linalg.svd(matrix, full_matrices=False)
    rank = int((values > tolerance * values[0]).sum())
    x = directions[:rank].T @ ((left[:, :rank].T @ right) / values[:rank])
    return x, rank, _ratio(values[:rank])


def _condition(normal: Tensor, factor: Tensor) -> float:
    """The condition of a matrix, estimated from its normal equations by power and inverse iteration."""
    start = torch.rand(len(normal), 1, generator=seeded_generator(0), dtype=normal.dtype, device="cpu") - 0.5
    large = small = start / start.norm()
    for _ in range(10):
        large, small = normal @ large, torch.cholesky_solve(small, factor)
        growth, decay = large.norm(), small.norm()
        large, small = large / growth, small / decay
    return float((growth * decay).sqrt())


def _transposed(layer: LayerShape, maps: Tensor, kernels: Tensor) -> Tensor:
    """The transposed convolution of ``maps`` (N, O, H', W') with the layer's stride and padding: (N, ., H, W)."""
    geometry = zip(layer.inputs[1:], layer.outputs[1:], kernels.shape[2:], layer.stride, layer.padding, strict=True)
    rest = [n - ((m - 1) * stride - 2 * pad + kernel) for n, m, kernel, stride, pad in geometry]
    return conv_transpose2d(maps, kernels, stride=layer.stride, padding=layer.padding, output_padding=rest)


def _ratio(values: Tensor) -> float:
    return float(values[0] / values[-1]) if len(values) else torch.inf


def _unexplained(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(torch.finfo(expected.dtype).tiny))
