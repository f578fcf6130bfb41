"""How much of the victims an attack's images give away: PSNR, and who is named among the crowd."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import torch
from torch import Tensor

from gilib import metrics
from gilib.audit.finding import Finding, Level, Pair
from gilib.audit.settings import Settings
from gilib.audit.target import Target

CHANCE = 0.001
"""Names count where fewer than this share of checks would be as lucky by blind guesses; an audit has up to twenty."""


@dataclass(frozen=True)
class Judge:
    """Compares what came back with the truth, for the report alone: no attack learns anything from it."""

    target: Target
    settings: Settings

    def images(
        self,
        check: str,
        found: Sequence[Tensor],
        *,
        note: str = "",
        numbers: Mapping[str, Any] | None = None,
        assumes: tuple[str, ...] = (),
        unadapted: tuple[str, ...] = (),
    ) -> Finding:
        """A finding from one stack of images a victim, each (n, C, H, W) with n up to the batch size.

        There may be fewer stacks than victims: those of the first ones. A victim of whom fewer images came back is
        compared with copies of the last one; with none, with grey.
        """
        pairs = list(zip((self._filled(images) for images in found), self.target.batches, strict=False))
        ordered = torch.cat([images[metrics.match(images, batch.images)] for images, batch in pairs])
        truth = torch.cat([batch.images for _, batch in pairs]).double()
        if len(pairs) < self.target.victims:
            note += f"; only {len(pairs)} of {self.target.victims} clients, for lack of time"
        psnr = metrics.psnr(ordered, truth).clamp(max=200)
        own = torch.arange(len(truth))
        named = metrics.named(ordered, self.target.crowd, own)
        level, count, best = self._level(psnr, named), int(named.sum()), int(psnr.argmax())
        recovered = int((psnr >= self.settings.recovered).sum())
        text = (
            f"{recovered} of {len(psnr)} recovered, {count} named among {len(self.target.crowd)}; "
            f"clearest {_decibels(float(psnr.max()))}, median {_decibels(float(psnr.quantile(0.5)))}{note}"
        )
        counts = {
            "psnr": [round(value, 2) for value in psnr.tolist()],
            "named": named.tolist(),
            "candidates": len(self.target.crowd),
        }
        pair = Pair(truth[best], ordered[best], float(psnr[best]))
        every = counts | dict(numbers or {})
        return Finding(check, level, text, every, assumes=assumes, unadapted=unadapted, clearest=pair)

    def complete(self, finding: Finding) -> bool:
        """Whether a check recovered every image of every victim, so that nothing more can come back."""
        values = finding.numbers.get("psnr", [])
        return len(values) == len(self.target.truth) and min(values) >= self.settings.recovered

    @property
    def names_count(self) -> bool:
        """Whether there are enough candidates for names to say something; among few, even all of them may be luck."""
        own = len(self.target.truth)
        return luck(own, own, len(self.target.crowd)) < CHANCE

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
        """The median PSNR of the crowd's mean image, for which nobody needs an update."""
        others = self.target.crowd[len(self.target.truth) :].double()
        mean = others.mean(dim=0, keepdim=True).expand_as(self.target.truth)
        return float(metrics.psnr(mean, self.target.truth.double()).quantile(0.5))


def luck(count: int, images: int, candidates: int) -> float:
    """The probability that blind guesses name at least ``count`` of ``images`` people, each among ``candidates``."""
    hit = 1 / candidates
    return sum(comb(images, k) * hit**k * (1 - hit) ** (images - k) for k in range(count, images + 1))


def _decibels(value: float) -> str:
    return "exact" if value >= 100 else f"{value:.1f} dB"
