"""audit: is the search that an audit chooses without the truth as good as the one that the truth would choose?"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from bench.studies.device import place
from bench.studies.victims import HELD_OUT
from gilib import data, models
from gilib.audit import Settings, Target
from gilib.audit.adaptation import adaptation_of
from gilib.audit.judge import Judge
from gilib.audit.plans import plans
from gilib.audit.reading import with_labels
from gilib.audit.searching import Outcome, Searches, chosen
from gilib.audit.surrogate import Generator
from gilib.data import Batch, Dataset
from gilib.defenses.gradient import pruning, sign_compression
from gilib.defenses.privacy import dp_sgd
from gilib.federated import Client, Defense, LocalTraining, train
from gilib.generators import decoder, train_decoder
from gilib.studies import key

OTHERS, LATENT, GROUPS = 1415, 16, 3
"""Digits from ``OTHERS`` on are by people of whom neither the network nor the generator knows anything."""
MEANING = 1


def quickstart(seed: int = 0) -> nn.Module:
    """The small network that tutorials of federated learning begin with: two convolutions, three linear layers."""
    layers = OrderedDict(
        conv1=models.blank_convolution(3, 6, kernel=5, stride=1, padding=0),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=models.blank_convolution(6, 16, kernel=5, stride=1, padding=0),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        linear1=models.blank_linear(400, 120),
        relu3=nn.ReLU(),
        linear2=models.blank_linear(120, 84),
        relu4=nn.ReLU(),
        linear3=models.blank_linear(84, 10),
    )
    return models.draw_weights(nn.Sequential(layers), seed=seed)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "LeNet": lambda: models.lenet(channels=1, size=8, width=8, activation="tanh", bound=0.15),
    "ConvNet": lambda: models.convnet(channels=1, size=8, widths=(8, 16)),
    "quickstart": quickstart,
    "ResNet-8": lambda: models.resnet(blocks=1, width=8),
}
"""The first two take digits, the others photographs."""


@dataclass(frozen=True)
class ChoiceCell:
    """All searches of the audit on one client's ``victims``, each of so many iterations, and the one that is chosen.

    The client is a network of `NETWORKS` after ``stage`` steps on images of others, and how it trains and defends
    itself. With the threat model D the server has a generator that learned the digits of others.
    """

    net: str
    stage: int = 0
    batch: int = 1
    victims: int = 4
    group: int = 0
    iterations: int = 100
    threat: str = "C"
    local: LocalTraining = field(default_factory=LocalTraining)
    defenses: tuple[Defense, ...] = ()

    @property
    def title(self) -> str:
        """What a progress line says."""
        return f"audit's choice: {self.setting}, group {self.group}"

    @property
    def setting(self) -> str:
        """What a table calls it."""
        parts = [self.net, f"{self.stage} steps" if self.stage else "untrained", f"batch {self.batch}"]
        parts += [f"{self.local.steps} local steps"] if not self.local.single else []
        parts += [one.name for one in self.defenses] + (["generator"] if self.threat == "D" else [])
        return ", ".join(parts)

    @property
    def key(self) -> str:
        """Changes with every setting, and with no other."""
        return key([MEANING, self])

    def measure(self) -> dict[str, Any]:
        """What each search found, which was chosen, and the PSNR of every image under it, the best and the median one.

        The best search is that of the highest median PSNR over the images; the median over searches is taken image by
        image.
        """
        target = self.target()
        judge, outcomes, found = Judge(target, Settings()), list[Outcome](), dict[str, dict[str, Any]]()
        searches = Searches(
            target,
            with_labels(target)[0],
            adaptation_of(self.defenses, target.updates[0]),
            Settings(threat=self.threat),  # type: ignore[arg-type]
        )
        for plan in plans(target, searches.settings.threat, target.generator):
            outcome = searches.run(plan, self.iterations, self.victims)
            numbers = judge.images(plan.name, outcome.images).numbers
            outcomes.append(outcome)
            found[plan.name] = {
                "psnr": [min(value, 100.0) for value in numbers["psnr"]],
                "named": sum(numbers["named"]),
                "distance": float(f"{outcome.distance:.3g}"),
                "agreement": round(outcome.agreement, 3),
            }
        every = torch.tensor([one["psnr"] for one in found.values()])
        best = int(every.quantile(0.5, dim=1).argmax())
        name = chosen(outcomes).plan.name
        return {
            "setting": self.setting,
            "searches": found,
            "chosen": name,
            "best": outcomes[best].plan.name,
            "chosen psnr": found[name]["psnr"],
            "best psnr": every[best].tolist(),
            "median psnr": [round(value, 2) for value in every.quantile(0.5, dim=0).tolist()],
            **place(),
        }

    def target(self) -> Target:
        """The client and its images, of which the victims come first; nobody among them trained the network."""
        images, others = (_photographs if self.net in ("quickstart", "ResNet-8") else _digits)(self)
        model = NETWORKS[self.net]()
        if self.stage:
            model = train(model, others, stages=[self.stage], learning_rate=0.05)[self.stage]
        client = Client(model, local=self.local, defenses=self.defenses, seed=0)
        drawing = generator() if self.threat == "D" else None
        return Target(client, images, self.batch, self.victims, generator=drawing)


@lru_cache
def generator() -> Generator:
    """A decoder that learned the public digits."""
    public = data.load("digits").images[:OTHERS]
    return Generator(train_decoder(decoder(LATENT), public, latent=LATENT, steps=800), LATENT)


def _digits(cell: ChoiceCell) -> tuple[Dataset, Batch]:
    """Victims by other people, spread over their forms, and the candidates that they are told from."""
    every, count = data.load("digits"), cell.victims * cell.batch
    spread = torch.arange(OTHERS + cell.group, len(every), 24)[:count]
    shown = torch.cat([spread, torch.arange(0, OTHERS, 5)])
    return Dataset(every.images[shown], every.labels[shown], every.classes), every.batch(range(OTHERS))


def _photographs(cell: ChoiceCell) -> tuple[Dataset, Batch]:
    """Held-out crops, of which a group has the next ones, and the other crops behind them."""
    every, first = data.load("photos"), cell.group * cell.victims * cell.batch
    shown = torch.arange(len(every)).roll(-first)
    return Dataset(every.images[shown], every.labels[shown], every.classes), every.batch(range(HELD_OUT, len(every)))


TARGETS = (
    ChoiceCell("LeNet"),
    ChoiceCell("LeNet", stage=300),
    ChoiceCell("LeNet", batch=2, local=LocalTraining(3, learning_rate=0.1)),
    ChoiceCell("LeNet", defenses=(dp_sgd(1.0, 0.05),)),
    ChoiceCell("ConvNet", batch=4, victims=2),
    ChoiceCell("ConvNet", stage=300, defenses=(pruning(0.9),)),
    ChoiceCell("ConvNet", stage=300, defenses=(pruning(0.9),), threat="D"),
    ChoiceCell("ConvNet", defenses=(sign_compression(),)),
    ChoiceCell("quickstart", victims=2),
    ChoiceCell("ResNet-8", victims=2),
)
CELLS = [replace(one, group=group) for one in TARGETS for group in range(GROUPS)]
