"""Distorted images: transformations one after another, a defense that applies them, and what undoes a known policy."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.data import Batch
from gilib.federated import Defense


@dataclass(frozen=True)
class Transformation:
    """One distortion of images (B, C, H, W) in [0, 1] to the same shape and range, by ``kind`` and ``strength``.

    - "shift right", "shift down", "shear": by ``strength`` times the side, filled with black.
    - "rotate": by ``strength`` degrees, filled with black.
    - "contrast": distances from grey times ``strength``, at most 1.
    - "posterize": ``strength`` grey levels, at least 2.
    - "cutout": a black square in the middle, ``strength`` times as wide as the image.

    Raises ValueError for another kind. Taught in: defenses/obscuration.
    """

    kind: str
    strength: float

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"expected one of {sorted(_KINDS)} as kind, got {self.kind!r}.")

    def __call__(self, images: Tensor) -> Tensor:
        """The distorted images."""
        return _KINDS[self.kind](images, self.strength)


Policy = Sequence[Transformation]


@dataclass(frozen=True)
class Transforming(Defense):
    """Train on images that a ``policy`` of transformations has distorted, one after another. The policy is public."""

    policy: tuple[Transformation, ...]
    keeps_sensitivity = True  # every image by itself

    @property
    def name(self) -> str:
        """The name of the defense."""
        return "transformations"

    @property
    def public(self) -> Mapping[str, object]:
        """The policy."""
        return {"policy": self.policy}

    def obscure(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """The distorted batch, with its own labels."""
        return Batch(apply(self.policy, batch.images), batch.labels)


def transformations(*policy: Transformation) -> Transforming:
    """Distort every image by the transformations of ``policy`` in their order.

    Known as: ATS, automatic transformation search (defense). Needs a policy of distortions that the network can learn
    from.
    Source: Gao et al. (2021), whose search chooses the policy. Taught in: defenses/obscuration.
    """
    return Transforming(policy)


def apply(policy: Policy, images: Tensor) -> Tensor:
    """The images (B, C, H, W) after all transformations of the policy."""
    for transformation in policy:
        images = transformation(images)
    return images


def undo(policy: Policy, images: Tensor, *, start: Tensor | None = None, ridge: float = 1e-3) -> Tensor:
    """The images (B, C, H, W) before a known policy, from those after it, by regularized least squares.

    Every kind but posterizing, which is passed over, is an affine map of the pixels. Its matrix is read off what it
    does to single pixels. What the policy destroyed stays as in ``start`` (C, H, W), grey unless given.

    Taught in: defenses/obscuration.
    """
    affine = [part for part in policy if part.kind != "posterize"]
    height, width = images.shape[-2:]
    size = height * width
    basis = torch.eye(size, dtype=torch.float64, device=images.device).reshape(size, 1, height, width)
    matrix = (apply(affine, basis) - apply(affine, torch.zeros_like(basis))).reshape(size, size)  # row: one pixel's map
    first = (
        torch.full_like(images.double(), 0.5) if start is None else start.to(images.device).double().expand_as(images)
    )
    left = (images.double() - apply(affine, first)).flatten(2)
    gram = matrix @ matrix.T + ridge * torch.eye(size, dtype=torch.float64, device=images.device)
    change = torch.linalg.solve(gram, matrix @ left.reshape(-1, size).T).T
    return (first + change.reshape(images.shape)).clamp(0, 1)


def _warp(images: Tensor, matrix: list[list[float]]) -> Tensor:
    """Read every pixel at its place times ``matrix`` (2, 3), places being in [-1, 1]; outside is black."""
    if not len(images):
        return images
    theta = torch.tensor(matrix, dtype=images.dtype, device=images.device).expand(len(images), 2, 3)
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False).clamp(0, 1)


def _rotate(images: Tensor, degrees: float) -> Tensor:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _warp(images, [[cos, -sin, 0.0], [sin, cos, 0.0]])


def _cutout(images: Tensor, share: float) -> Tensor:
    mask = torch.ones_like(images)
    height, width = images.shape[-2:]
    tall, wide = round(share * height), round(share * width)
    top, left = (height - tall) // 2, (width - wide) // 2
    mask[..., top : top + tall, left : left + wide] = 0
    return images * mask


_KINDS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "shift right": lambda images, share: _warp(images, [[1.0, 0.0, -2 * share], [0.0, 1.0, 0.0]]),
    "shift down": lambda images, share: _warp(images, [[1.0, 0.0, 0.0], [0.0, 1.0, -2 * share]]),
    "shear": lambda images, share: _warp(images, [[1.0, share, 0.0], [0.0, 1.0, 0.0]]),
    "rotate": _rotate,
    "contrast": lambda images, factor: 0.5 + min(factor, 1.0) * (images - 0.5),
    "posterize": lambda images, levels: (images * (levels - 1)).round() / (levels - 1),
    "cutout": _cutout,
}
