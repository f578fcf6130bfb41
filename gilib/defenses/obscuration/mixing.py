"""MixUp and InstaHide: train on weighted means of several images, with signs flipped or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gilib.data import Batch
from gilib.federated import Defense, as_targets


@dataclass(frozen=True)
class Mixing(Defense):
    """Train on weighted means of ``k`` images, and with ``flip`` change the sign of every pixel at random.

    Each image of the batch is mixed with partners from ``pool``, the client's own data, or without it from the batch.
    With ``strangers`` (P, C, H, W), public images, half of the ``k`` (rounded down) are drawn from those. Labels are
    mixed as the client's images are, and divided by the share of these, so that rows of probabilities sum to one over
    ``classes``; for a single logit (``classes=1``) a row is the mixed label. No weight exceeds ``largest``.
    Public are the settings and the strangers, never pool, partners, weights or signs. Use ``mixup`` and ``instahide``.
    """

    k: int
    classes: int
    largest: float = 0.65
    flip: bool = False
    pool: Batch | None = field(default=None, repr=False)
    strangers: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.k < 2 or not 1 / self.k < self.largest <= 1:
            raise ValueError(
                f"expected k of at least 2 and largest above 1/k, at most 1; got k={self.k}, largest={self.largest}."
            )
        if self.strangers is not None and len(self.strangers) < self.k - self.own:
            raise ValueError(f"mixing needs {self.k - self.own} public images; got {len(self.strangers)}: add some.")

    @property
    def name(self) -> str:
        """The name of the defense, with signs flipped or not."""
        return "instahide" if self.flip else "mixup"

    @property
    def public(self) -> Mapping[str, object]:
        """Settings and public images."""
        return {"k": self.k, "largest": self.largest, "strangers": self.strangers}

    @property
    def own(self) -> int:
        """How many of the ``k`` images are the client's."""
        return self.k if self.strangers is None else self.k - self.k // 2

    def obscure(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """The encodings of a batch and their mixed labels (B, classes).

        Raises ValueError where there are not enough images to mix.
        """
        weights = mixing_weights(len(batch), self.k, self.largest, generator).to(batch.images.device)
        images, targets = self._own(batch, weights, generator)
        if self.strangers is not None:
            for row in range(len(batch)):
                drawn = torch.randperm(len(self.strangers), generator=generator, device="cpu")[: self.k - self.own]
                public = self.strangers[drawn].to(images)
                images[row] += torch.tensordot(weights[row, self.own :], public, dims=1)
        if self.flip:
            signs = torch.rand(images.shape, generator=generator, dtype=torch.float64, device="cpu") < 0.5
            images = torch.where(signs.to(images.device), 1 - images, images)
        return Batch(images.clamp(0, 1), _rescaled(targets, weights[:, : self.own].sum(dim=1, keepdim=True)))

    def _own(self, batch: Batch, weights: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The client's part of the encodings and of their labels (B, classes), where the batch lies."""
        pool, home = batch if self.pool is None else self.pool, batch.images.device
        pooled, labels = pool.images.to(home), as_targets(pool.labels.to(home), self.classes)
        images = _column(weights[:, 0]) * batch.images.double()
        targets = weights[:, :1] * as_targets(batch.labels.to(home), self.classes)
        for row in range(len(batch)):
            partners = _others(pooled, batch.images[row], self.own - 1, generator)
            share = weights[row, 1 : self.own]
            images[row] += torch.tensordot(share, pooled[partners].double(), dims=1)
            targets[row] += share @ labels[partners]
        return images, targets


def mixup(k: int = 2, *, classes: int, largest: float = 0.65, pool: Batch | None = None) -> Mixing:
    """Train on ``sum_i w_i x_i`` with labels ``sum_i w_i y_i`` instead of images and labels.

    Known as: MixUp (defense). Needs several images to mix.
    Source: Zhang et al. (2018); as a defense, with the bound on the largest weight, Huang et al. (2021). Taught in:
    defenses/obscuration.
    """
    return Mixing(k, classes, largest, pool=pool)


def instahide(
    k: int = 4, *, classes: int, largest: float = 0.65, pool: Batch | None = None, public: Tensor | None = None
) -> Mixing:
    """MixUp, and then every pixel of ``2x - 1`` times a sign of its own, drawn afresh each time.

    On images in [0, 1] the flip takes ``x`` to ``1 - x``. Without ``public`` all images are the client's (intra), with
    ``public`` images (P, C, H, W) half of them are strangers (cross).

    Known as: InstaHide (defense). Needs several images to mix.
    Source: Huang et al. (2020). Taught in: defenses/obscuration.
    """
    return Mixing(k, classes, largest, flip=True, pool=pool, strangers=public)


def mixing_weights(count: int, k: int, largest: float, generator: torch.Generator) -> Tensor:
    """Rows (count, k) that sum to one, from a Dirichlet distribution with 3 for the first and 1 for every other."""
    weights = torch.ones(count, k, dtype=torch.float64, device="cpu")
    while bool((over := weights.amax(dim=1) > largest).any()):
        drawn = torch.empty(int(over.sum()), k + 2, dtype=torch.float64, device="cpu")
        drawn.exponential_(generator=generator)
        gamma = torch.cat([drawn[:, :3].sum(dim=1, keepdim=True), drawn[:, 3:]], dim=1)
        weights[over] = gamma / gamma.sum(dim=1, keepdim=True)
    return weights


def _others(pool: Tensor, image: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` different indices into ``pool``, none of them of ``image`` itself."""
    different = (pool != image).flatten(1).any(dim=1).nonzero()[:, 0].cpu()
    if len(different) < count:
        raise ValueError(f"mixing needs {count} other images, the pool has {len(different)}: lower k, or widen pool.")
    return different[torch.randperm(len(different), generator=generator, device="cpu")[:count]]


def _rescaled(targets: Tensor, share: Tensor) -> Tensor:
    """Targets (B, K) without what strangers leave missing: divided by the ``share`` (B, 1) of the client's images.

    Probabilities sum to that share but for rounding, and are divided by their sum, which leaves exactly one.
    """
    total = targets.sum(dim=1, keepdim=True)
    return targets / torch.where(torch.isclose(total, share), total, share)


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]
