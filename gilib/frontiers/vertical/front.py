"""The third shot: from what entered the first fully connected layer back to the columns, by linear systems."""

from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gilib.chain import chain
from gilib.recursion import LayerReport
from gilib.recursion.door import check_plain
from gilib.recursion.network import LayerShape, layers_of
from gilib.recursion.systems import weight_matrix

Links = list[tuple[str, nn.Module]]
_SHAPES = nn.Flatten | nn.Unflatten | nn.Identity
_ASLEEP = 1e-7  # of the largest output: a solved one is zero only up to rounding


@dataclass(frozen=True, eq=False)
class Dense:
    """The first fully connected layer of a model: its ``name``, the ``layer``, and the ``front``, what runs before."""

    name: str
    layer: nn.Linear
    front: Links


def first_dense(model: nn.Module, shape: tuple[int, int, int]) -> Dense:
    """The first fully connected layer of a party's model, for parts of ``shape`` (C, H, W).

    Raises ValueError for a model that is no chain of layers (see `gilib.chain`), for one without such a layer, and
    where it has no bias or its gradient is not shared: the first shot is about the gradient of that bias.
    """
    links = chain(model, image_shape=shape)
    place = next((place for place, (_, part) in enumerate(links) if isinstance(part, nn.Linear)), None)
    if place is None:
        raise ValueError(
            f"no fully connected layer among {[name for name, _ in links]}: the two shots need one. That says nothing "
            "about what the update gives away; search for it (gilib.iteration)."
        )
    name, layer = links[place]
    assert isinstance(layer, nn.Linear)
    check_plain(name, layer)
    if layer.bias is None or not (layer.bias.requires_grad and layer.weight.requires_grad):
        raise ValueError(
            f"the first fully connected layer {name!r} has no bias that is trained, and the first shot reads its "
            "gradient. That says nothing about what the update gives away; search for it (gilib.iteration)."
        )
    if [part for _, part in links].count(layer) > 1:
        raise ValueError(f"layer {name!r} runs more than once, so that its gradient is a mixture.")
    return Dense(name, layer, links[:place])


def solve_front(
    dense: Dense, shape: tuple[int, int, int], inputs: Tensor, *, name: str = "third shot"
) -> tuple[Tensor, list[LayerReport]]:
    """The parts (N, C, H, W) from what entered the first fully connected layer, ``inputs`` (N, in).

    Layer by layer inwards: the activation is undone, then one linear system is solved for what entered the convolution.
    Behind ReLU only outputs that are awake give an equation, and where those are too few the shortest solution is
    returned. One report a layer, of the sample with the lowest rank. Raises ValueError for a layer that it cannot undo,
    such as pooling.

    Source: ours; Jin et al. (2021) search instead. Taught in: frontiers/vertical.
    """
    found, reports = inputs.double(), []
    for layer, relu in reversed(_layers(dense.front, shape)):
        z = found.reshape(-1, *layer.outputs)
        known = (z > _ASLEEP * z.abs().max()) if relu else torch.ones_like(z, dtype=torch.bool)
        z = z if relu else layer.activation.inverse(z)
        z = z if layer.bias is None else z - layer.bias[:, None, None]
        found, report = _inputs(layer, z.flatten(1), known.flatten(1))
        reports.append(replace(report, name=f"{name}, {layer.name}"))
    return found.reshape(-1, *shape), reports


def _inputs(layer: LayerShape, z: Tensor, known: Tensor) -> tuple[Tensor, LayerReport]:
    """What entered a layer, (N, C, H, W), from the outputs (N, .) that are known, less the bias."""
    height, width = layer.inputs[1:]
    matrix = weight_matrix(layer, torch.eye(height * width, dtype=torch.float64).reshape(-1, height, width))
    if bool(known.all()):
        found, rank, condition = _least_squares(matrix, z.T)
    else:
        rows = [_least_squares(matrix[k], row[k, None]) for row, k in zip(z, known, strict=True)]
        found = torch.cat([x for x, _, _ in rows], dim=1)
        rank, condition = min(rows, key=lambda one: one[1])[1:]
    left, given = (matrix @ found - z.T) * known.T, z * known
    residual = float(left.norm() / given.norm().clamp_min(torch.finfo(z.dtype).tiny))
    equations = int(known.sum(dim=1).min())
    report = LayerReport(layer.name, layer.unknowns, equations, rank, residual, condition)
    return found.T.reshape(-1, *layer.inputs), report


def _least_squares(matrix: Tensor, right: Tensor) -> tuple[Tensor, int, float]:
    """The shortest least-squares solution, the rank, and the condition (infinite where the rank is not full).

    The normal equations with two steps of refinement where they can carry it, else an orthogonal factorisation.
    """
    if not len(matrix):
        return right.new_zeros(matrix.shape[1], right.shape[1]), 0, float("inf")
    if len(matrix) >= matrix.shape[1]:
        normal = torch.from_numpy(matrix.numpy().T @ matrix.numpy())  # NumPy knows that this is symmetric
        values = torch.linalg.eigvalsh(normal)
        if values[0] > 1e-10 * values[-1]:
            factor, x = torch.linalg.cholesky(normal), torch.zeros_like(matrix.T @ right)
            for _ in range(3):
                x = x + torch.cholesky_solve(matrix.T @ (right - matrix @ x), factor)
            return x, len(x), float((values[-1] / values[0]).sqrt())
    solved = torch.linalg.lstsq(matrix, right, rcond=1e-9, driver="gelsy")
    return solved.solution, int(solved.rank), float("inf")


def _layers(front: Links, shape: tuple[int, int, int]) -> list[tuple[LayerShape, bool]]:
    """The linear maps of the front with their activations, and whether that is a ReLU."""
    layers: list[tuple[LayerShape, bool]] = []
    parts = [(name, part) for name, part in front if not isinstance(part, _SHAPES)]
    features = shape
    while parts:
        (name, part), parts = parts[0], parts[1:]
        relu = bool(parts) and isinstance(parts[0][1], nn.ReLU)
        behind = parts[:1] if parts and not isinstance(parts[0][1], nn.Conv2d) else []
        parts = parts[len(behind) :]
        pair = OrderedDict([("layer", part)] + ([("act", one) for _, one in behind] if not relu else []))
        try:
            [layer] = layers_of(nn.Sequential(pair), features)
        except ValueError as error:
            names = " and ".join([name, *(one for one, _ in behind)])
            raise ValueError(
                f"{names} cannot be undone by linear equations ({error}). Give cafe a search for the last step, "
                "search=Search()."
            ) from error
        layers.append((LayerShape(**{**vars(layer), "name": name}), relu))
        features = layer.outputs
    return layers
