"""generative at 32 x 32: pixels, codes and weights of a generator, on digits by other people and on faces."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from bench.studies.cells import scores
from bench.studies.device import device, place
from gilib import data, models
from gilib.data import Batch
from gilib.federated import Client, train
from gilib.generators import decoder, train_decoder
from gilib.iteration import gias, inverting_gradients
from gilib.iteration.attack import Attack
from gilib.studies import key

OTHERS, LATENT, CLIENTS, BATCH = 1415, 16, 4, 4
"""Digits from ``OTHERS`` on are by people of whom neither the network nor the generator knows anything."""
ATTACKS = ("pixels", "pixels, TV", "codes", "codes, then weights")
STEPS = 200
MEANING = 1


@lru_cache
def images(kind: str) -> Tensor:
    """All digits or all faces, (N, 1, 32, 32)."""
    found = data.load(kind, size=32).images
    return found[:100] if kind == "faces" else found


def victims(kind: str) -> list[Batch]:
    """Clients of ``BATCH`` images each: digits spread over their writers, or faces, which all have the label 0."""
    count = CLIENTS * BATCH
    if kind == "faces":
        chosen, labels = images(kind)[:count], torch.zeros(count, dtype=torch.int64)
    else:
        digits = data.load("digits", size=32)
        spread = torch.arange(OTHERS, len(digits), (len(digits) - OTHERS) // count)[:count]
        chosen, labels = digits.images[spread], digits.labels[spread]
    return [Batch(chosen[at : at + BATCH], labels[at : at + BATCH]) for at in range(0, count, BATCH)]


@lru_cache
def generator() -> nn.Module:
    """A decoder that learned the public digits, in float32."""
    public = images("digits")[:OTHERS]
    return train_decoder(decoder(LATENT, size=32), public, latent=LATENT, steps=800).float().to(device())


@lru_cache
def network(stage: int) -> nn.Module:
    """ResNet-8 with ReLU for one channel, after ``stage`` steps on the public digits."""
    digits = data.load("digits", size=32)
    fresh = models.resnet(blocks=1, channels=1, width=16)
    return train(fresh, digits.batch(range(OTHERS)), stages=[stage], learning_rate=0.05)[stage].to(device())


def attack_of(name: str) -> Attack:
    """All compare by the cosine and evaluate it ``STEPS`` times, from one start."""
    if name.startswith("pixels"):
        return inverting_gradients(tv=1e-2 if name.endswith("TV") else 0.0, iterations=STEPS)
    steps = STEPS if name == "codes" else STEPS // 2
    return gias(generator(), LATENT, iterations=steps, weight_iterations=STEPS - steps, restarts=1)


@dataclass(frozen=True)
class GenerativeCell:
    """One attack on four clients of four images of a kind, on the network at one stage."""

    kind: str
    attack: str
    stage: int

    @property
    def title(self) -> str:
        """What a progress line says."""
        return f"{self.kind} by {self.attack}, {self.stage} steps"

    @property
    def key(self) -> str:
        """Changes with every setting, and with no other."""
        return key([MEANING, self, OTHERS, LATENT, CLIENTS, BATCH])

    def measure(self) -> dict[str, Any]:
        """PSNR, SSIM and the nearest image of the kind, for every image; and how often the network is right."""
        model, batches = network(self.stage), victims(self.kind)
        client = Client(model, share_labels=True, seed=0)
        found = attack_of(self.attack).reconstruct_many(model, [client.update(batch) for batch in batches])
        unseen = data.load("digits", size=32).batch(range(OTHERS, 1797))
        with torch.no_grad():
            named = model(unseen.images.to(device())).argmax(dim=1).cpu()
        right = (named == unseen.labels).double().mean().item()
        objective = [round(float(one.losses.min()), 6) for one in found]
        seen = scores(found, batches, images(self.kind))
        return {"right": round(right, 3), **seen, "objective": objective, **place()}


CELLS = [
    GenerativeCell(kind, attack, stage) for stage in (0, 150) for kind in ("digits", "faces") for attack in ATTACKS
]
