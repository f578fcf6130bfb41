"""labels at scale: 100 classes, batches of up to 128, a ResNet-20, five seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from bench.studies.device import device, place
from gilib import data, models
from gilib.data import Batch
from gilib.federated import Client, seeded_generator, train
from gilib.iteration import labels
from gilib.metrics import labels_read
from gilib.studies import key

CLASSES, SIZES, BATCHES = 100, (8, 32, 128), 8
RULES: dict[str, Callable[[], labels.Labels]] = {
    "column minimum": labels.column_minimum,
    "LLG": labels.llg,
    "counts": labels.counts,
}
MEANING = 1


@lru_cache
def parts() -> tuple[Batch, Batch]:
    """Public and private images of 100 classes: parts of ten photographs, 32 x 32, each shifted and tinted.

    A class is one of the first ten crops of a photograph; an image of it is a window of 32 x 32 pixels of that crop at
    48 x 48, with each colour scaled by up to a quarter.
    """
    crops = data.load("photos", size=48).images[:CLASSES]
    generator = seeded_generator(0)
    images, names = [], []
    for name, crop in enumerate(crops):
        for _ in range(48):
            down, across = torch.randint(17, (2,), generator=generator).tolist()
            tint = 0.75 + 0.5 * torch.rand(3, 1, 1, generator=generator)
            images.append((crop[:, down : down + 32, across : across + 32] * tint).clamp(0, 1))
            names.append(name)
    every = torch.randperm(len(images), generator=generator)
    stack, classes = torch.stack(images), torch.tensor(names)
    half = len(every) // 2
    return Batch(stack[every[:half]], classes[every[:half]]), Batch(stack[every[half:]], classes[every[half:]])


@dataclass(frozen=True)
class LabelCell:
    """All rules on ``BATCHES`` batches of each size, on one network at one stage.

    ``kind`` is "any" for labels as they come. "mostly" is of one class as far as its private images go, and for three
    quarters of a batch at most.
    """

    kind: str
    stage: int
    seed: int

    @property
    def title(self) -> str:
        """What a progress line says."""
        return f"labels: {self.kind}, {self.stage} steps, seed {self.seed}"

    @property
    def key(self) -> str:
        """Changes with every setting, and with no other."""
        return key([MEANING, self, CLASSES, SIZES, BATCHES, list(RULES)])

    def measure(self) -> dict[str, Any]:
        """The mean share of labels that each rule reads, with their numbers, for every batch size.

        The column minimum finds each class once, so that it is left out where there are more samples than classes.
        """
        model, (_, private) = network(self.seed, self.stage), parts()
        with torch.no_grad():
            named = model(private.images[:500].to(device())).argmax(dim=1).cpu()
        right = (named == private.labels[:500]).double().mean().item()
        result: dict[str, Any] = {"kind": self.kind, "stage": self.stage, "seed": self.seed, "right": round(right, 3)}
        for size in SIZES:
            rules = {name: rule for name, rule in RULES.items() if name != "column minimum" or size <= CLASSES}
            shares: dict[str, list[float]] = {name: [] for name in (*rules, "equal counts", "one class")}
            for batch in batches(self.kind, size):
                update = Client(model).update(batch)
                found = {name: rule().restore(update, model) for name, rule in rules.items()}
                found["equal counts"] = torch.arange(size) % CLASSES
                found["one class"] = labels.last_layer(update, model)[1].argmin().expand(size)
                for name, guess in found.items():
                    assert guess is not None
                    shares[name].append(labels_read(guess, batch.labels))
            result[f"batch of {size}"] = {name: round(sum(some) / len(some), 4) for name, some in shares.items()}
        return result | place()


def batches(kind: str, size: int) -> list[Batch]:
    """The same batches of the private images for every network."""
    _, private = parts()
    generator, made = seeded_generator(1, size), []
    for _ in range(BATCHES):
        mixed = torch.randperm(len(private), generator=generator)
        if kind == "mostly":
            own = mixed[private.labels[mixed] == int(private.labels[mixed[0]])][: 3 * size // 4]
            mixed = torch.cat([own, mixed[~torch.isin(mixed, own)]])
        made.append(Batch(private.images[mixed[:size]], private.labels[mixed[:size]]))
    return made


def _untrained(seed: int) -> nn.Module:
    return models.resnet(CLASSES, width=16, blocks=3, seed=seed)


@lru_cache(maxsize=1)
def _stages(seed: int) -> dict[int, nn.Module]:
    model = _untrained(seed)
    stages = train(model, parts()[0], stages=[0, 30, 300], learning_rate=0.05, seed=seed)  # by the processor
    return {stage: trained.to(device()) for stage, trained in stages.items()}


def network(seed: int, stage: int) -> nn.Module:
    """ResNet-20 for 100 classes, in eval mode."""
    return _stages(seed)[stage] if stage else _untrained(seed).eval().to(device())


CELLS = [LabelCell(kind, stage, seed) for seed in range(5) for stage in (0, 30, 300) for kind in ("any", "mostly")]
