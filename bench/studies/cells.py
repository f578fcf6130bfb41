"""The cells of the studies: a search on a few clients, and what a gradient says about one of them."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bench.studies.device import place
from bench.studies.victims import Net, held_out, photographs
from gilib import metrics
from gilib.data import Batch
from gilib.federated import Client, Defense, LocalTraining, Update, seeded_generator
from gilib.federated.update import Mode
from gilib.iteration.attack import Attack
from gilib.iteration.reconstruction import Reconstruction
from gilib.jacobian import jacobian
from gilib.matrix.defenses import unaware
from gilib.studies import key

MEANING = 1
"""Raise this when a measurement changes its meaning without a change of settings: everything is computed anew."""


@dataclass(frozen=True)
class SearchCell:
    """One search on some clients: ``victims`` clients with ``batch`` photographs each, from crop ``first`` on.

    ``setting`` is what a chapter calls it. Labels are known, as in the papers' own experiments. With ``careless`` the
    attacker takes an update for one step on the plain model, whatever the client did. With ``buffers`` the client
    shares its batch-norm statistics. All is float32.
    """

    setting: str
    net: Net
    attack: Attack
    first: int = 0
    victims: int = 4
    batch: int = 1
    mode: Mode = "eval"
    buffers: bool = False
    local: LocalTraining = field(default_factory=LocalTraining)
    defenses: tuple[Defense, ...] = ()
    careless: bool = False

    @property
    def title(self) -> str:
        """What a progress line says."""
        return f"{self.setting}: {self.net}, {self.victims} clients of {self.batch} from crop {self.first}, {self.mode}"

    @property
    def key(self) -> str:
        """Changes with every setting, and with no other."""
        return key([MEANING, self])

    def measure(self) -> dict[str, Any]:
        """PSNR, SSIM and the nearest crop of every image, and how far the objective came."""
        batches = held_out(self.first, self.victims, self.batch)
        client = Client(
            self.net.built(),
            local=self.local,
            defenses=self.defenses,
            mode=self.mode,
            share_buffers=self.buffers,
            share_labels=True,
            seed=0,
        )
        updates = [client.update(batch, round=place) for place, batch in enumerate(batches)]
        if self.careless:
            updates = [unaware(update) for update in updates]
        start = time.process_time()
        found = self.attack.reconstruct_many(client.improved(), updates)
        seconds = time.process_time() - start
        return {
            "setting": self.setting,
            "net": str(self.net),
            "right": round(self.net.right(), 3),
            **scores(found, batches, photographs().images),
            "length": [_length(update) for update in updates],
            "objective": [round(float(one.losses.min()), 6) for one in found],
            "seconds per client": round(seconds / self.victims, 2),
            **place(),
        }


@dataclass(frozen=True)
class RankCell:
    """How many of the pixels' directions one update determines: singular values of its derivative, at one crop."""

    setting: str
    net: Net
    crop: int = 0
    mode: Mode = "eval"

    @property
    def title(self) -> str:
        """What a progress line says."""
        return f"{self.setting}: {self.net}, crop {self.crop}, {self.mode} mode"

    @property
    def key(self) -> str:
        """Changes with every setting, and with no other."""
        return key([MEANING, self])

    def measure(self) -> dict[str, Any]:
        """The numerical rank in float64, and quantiles of the singular values relative to the largest."""
        model = copy.deepcopy(self.net.built()).double()
        [batch] = held_out(self.crop, 1, 1)
        values = spectrum(Client(model, mode=self.mode), batch)
        share = values / values[0]
        places = torch.tensor([0.01, 0.1, 0.5, 0.9, 0.99], dtype=torch.float64)
        return {
            "setting": self.setting,
            "net": str(self.net),
            "parameters": sum(value.numel() for value in model.parameters()),
            "pixels": batch.images.numel(),
            "rank": int((share > 1e-10).sum()),
            "quantiles": [f"{value:.2e}" for value in share.quantile(places).tolist()],
        }


def spectrum(client: Client, batch: Batch) -> Tensor:
    """Singular values of the derivative J of the update by the pixels, largest first, up to a random projection.

    Each of the m rows of J is added, with random signs, to eight of 2 n rows (n pixels). That keeps the rank, and the
    singular values to a small factor, and takes a system of 2 n by n instead of m by n.
    """
    _, derivative = jacobian(client, batch)
    rows, pixels = derivative.shape
    if rows <= 2 * pixels:
        return torch.linalg.svdvals(derivative)
    generator, projected = seeded_generator(0), derivative.new_zeros(2 * pixels, pixels)
    for _ in range(8):
        where = torch.randint(2 * pixels, (rows,), generator=generator)
        signs = 2.0 * torch.randint(2, (rows, 1), generator=generator).to(derivative) - 1.0
        projected.index_add_(0, where, signs * derivative)
    return torch.linalg.svdvals(projected)


def scores(found: Sequence[Reconstruction], batches: Sequence[Batch], candidates: Tensor) -> dict[str, Any]:
    """PSNR (100 is exact), SSIM, the nearest candidate and the client's own, for every image in the clients' order."""
    pairs = [(one.images, batch.images.to(one.images)) for one, batch in zip(found, batches, strict=True)]
    truth = torch.cat([true for _, true in pairs])
    images = torch.cat([found_images[metrics.match(found_images, true)] for found_images, true in pairs])
    return {
        "psnr": _rounded(metrics.psnr(images, truth).clamp(max=100), 2),
        "ssim": _rounded(metrics.ssim(images, truth), 3),
        "nearest": nearest(images, candidates).tolist(),
        "own": nearest(truth, candidates).tolist(),
    }


def nearest(images: Tensor, candidates: Tensor) -> Tensor:
    """Which of the candidates (N, C, H, W) each of the images (B, C, H, W) is nearest to."""
    pair = images.flatten(1).double(), candidates.flatten(1).to(images.device).double()
    return torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)


def in_groups(cell: SearchCell, victims: int, group: int = 4) -> list[SearchCell]:
    """The search on ``victims`` clients as cells of ``group`` clients: an interruption then loses little."""
    starts = range(0, victims, group)
    return [replace(cell, first=cell.first + at * cell.batch, victims=min(group, victims - at)) for at in starts]


def _length(update: Update) -> float:
    return round(float(sum(value.square().sum() for value in update.gradients.values()) ** 0.5), 6)


def _rounded(values: Tensor, digits: int) -> list[float]:
    return [round(value, digits) for value in values.tolist()]
