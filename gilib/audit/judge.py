"""How much of the victims an attack's images give away: PSNR, and who is named among the crowd."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from gilib import metrics
from gilib.audit.finding import Finding, Level, Pair
from gilib.audit.settings import Settings
from gilib.audit.target import Target

CHANCE = 0.01
"""Names count from where a blind guess would be as lucky in fewer than so many audits."""


@dataclass(frozen=True)
class Judge:
    """Compares what came back with the truth, for the report alone: no attack learns anything from it."""

    target: Target
    settings: Settings

    def images(self, check: str, found: Sequence[Tensor], *, note: str = "", **more: object) -> Finding:
        """A finding from one stack of images a victim, each (n, C, H, W) with n up to the batch size.

        A victim of whom fewer images came back is compared with copies of the last one; with none, with grey.
        """
        whole = [self._filled(images) for images in found]
        ordered = torch.cat(
            [
                images[metrics.match(images, batch.images)]
                for images, batch in zip(whole, self.target.batches, strict=True)
            ]
        )
        truth = self.target.truth.double()
        psnr = metrics.psnr(ordered, truth).clamp(max=200)
        own = torch.arange(len(truth))
        named = metrics.named(ordered, self.target.crowd, own)
        level, count, best = self._level(psnr, named), int(named.sum()), int(psnr.argmax())
        recovered = int((psnr >= self.settings.recovered).sum())
        text = (
            f"{recovered} of {len(psnr)} recovered, {count} named among {len(self.target.crowd)}; "
            f"worst person {_decibels(float(psnr.max()))}, median {_decibels(float(psnr.quantile(0.5)))}{note}"
        )
        numbers = {
            "psnr": [round(value, 2) for value in psnr.tolist()],
            "named": named.tolist(),
            "candidates": len(self.target.crowd),
        }
        extra = more.pop("numbers", {})
        assert isinstance(extra, dict)
        pair = Pair(truth[best], ordered[best], float(psnr[best]))
        return Finding(check, level, text, numbers | extra, worst=pair, **more)  # type: ignore[arg-type]

    def _level(self, psnr: Tensor, named: Tensor) -> Level:
        share = float(named.double().mean())
        lucky = luck(int(named.sum()), len(named), len(self.target.crowd))
        if bool((psnr >= self.settings.recovered).any()) or (share >= self.settings.named and lucky < CHANCE):
            return "leak"
        return "partial" if lucky < CHANCE else "nothing"

    def _filled(self, images: Tensor) -> Tensor:
        images = images.detach().cpu().double().nan_to_num(0.5, 1.0, 0.0).clamp(0, 1)[: self.target.batch]
        missing = self.target.batch - len(images)
        last = images[-1:] if len(images) else torch.full_like(self.target.truth[:1].double(), 0.5)
        return torch.cat([images, last.expand(missing, -1, -1, -1)]) if missing else images

    @property
    def guess(self) -> float:
        """The median PSNR of the crowd's mean image: what nobody needs an update for."""
        others = self.target.crowd[len(self.target.truth) :].double()
        mean = others.mean(dim=0, keepdim=True).expand_as(self.target.truth)
        return float(metrics.psnr(mean, self.target.truth.double()).quantile(0.5))


def luck(count: int, images: int, candidates: int) -> float:
    """The probability that blind guesses name at least ``count`` of ``images`` people, each among ``candidates``."""
    hit = 1 / candidates
    return sum(comb(images, k) * hit**k * (1 - hit) ** (images - k) for k in range(count, images + 1))


def _decibels(value: float) -> str:
    return "exact" if value >= 100 else f"{value:.1f} dB"
