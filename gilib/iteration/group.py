"""Group consistency: the restarts of one victim are pulled towards their common, registered mean."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GroupConsistency:
    """Mean squared distance of each restart's images from the mean of all restarts, times ``weight``.

    Restarts may find the same content at shifted positions. Each image is therefore registered before averaging: moved
    by the whole number of pixels that correlates best with the plain mean, and the mean is moved back to it.
    """

    weight: float
    register: bool = True

    def __call__(self, vectors: Tensor, shape: tuple[int, ...], restarts: int) -> tuple[Tensor, Tensor]:
        """The penalties (N,) and their gradients (N, D) for the pixels (N, D) of all rows."""
        images = vectors.reshape(-1, restarts, *shape)  # victim, restart, B, C, H, W
        consensus = registered_mean(images) if self.register else images.mean(dim=1, keepdim=True).expand_as(images)
        difference = (images - consensus).reshape(vectors.shape)
        return self.weight * difference.square().mean(dim=1), 2 * self.weight * difference / vectors.shape[1]


def group_consistency(weight: float, *, register: bool = True) -> GroupConsistency:
    """Pull the restarts of a victim towards their mean, registered by whole-pixel shifts unless ``register=False``.

    The paper registers with a learned optical flow; shifts are what our small images need and allow.

    Known as: group consistency (ingredient). Needs several restarts of a victim.
    Source: GradInversion, Yin et al. (2021). Taught in: iteration/priors.
    """
    return GroupConsistency(weight, register)


def registered_mean(images: Tensor) -> Tensor:
    """For each image of (V, R, B, C, H, W) the mean over R of all, aligned with that image: same shape."""
    mean = images.mean(dim=1, keepdim=True)
    down, across = best_shift(mean.expand_as(images), images)
    aligned = shifted(images, down, across).mean(dim=1, keepdim=True).expand_as(images)
    return shifted(aligned, -down, -across)


def best_shift(fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
    """The circular shifts (down, across), each (...), that bring ``moving`` (..., C, H, W) closest to ``fixed``."""
    spectra = torch.fft.fft2(fixed.mean(dim=-3)) * torch.fft.fft2(moving.mean(dim=-3)).conj()
    correlation = torch.fft.ifft2(spectra).real
    best = correlation.flatten(-2).argmax(dim=-1)
    return best // correlation.shape[-1], best % correlation.shape[-1]


def shifted(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Each image of (..., C, H, W) rolled by its own whole numbers of pixels (...)."""
    height, width = images.shape[-2:]
    rows = (torch.arange(height, device=images.device) - down[..., None]) % height
    columns = (torch.arange(width, device=images.device) - across[..., None]) % width
    rows = rows[..., None, :, None].expand(images.shape)
    columns = columns[..., None, None, :].expand(images.shape)
    return images.gather(-2, rows).gather(-1, columns)
