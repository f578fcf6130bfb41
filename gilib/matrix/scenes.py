"""The stage on which the matrix plays: eight people, three networks, two moments of training."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from gilib import data, models
from gilib.data import Batch
from gilib.federated import train
from gilib.generators import decoder, train_decoder

STAGES = (0, 45)
"""Steps of training after which clients are attacked: none, and enough to get most digits right."""

PEOPLE = 8
LATENT = 16

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "LeNet": lambda: models.lenet(channels=1, size=8, width=8, activation="tanh", bound=0.15).double(),
    "ConvNet": lambda: models.convnet(channels=1, size=8, widths=(8, 16), activation="leaky_relu").double(),
    "MLP": lambda: models.mlp(channels=1, size=8, hidden=(200,)).double(),
}
"""The networks under attack. Search works on each; R-GAP needs the second, division and SPEAR the third."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One network at one stage, and who is there.

    ``model`` is what the server distributes. ``people`` hold one digit each, all different, which the network never
    saw. ``training`` are other people's digits, on which the network was trained and of which the attacker has some
    too. ``unseen`` are the digits that accuracy is measured on.
    """

    model: nn.Module
    people: tuple[Batch, ...]
    training: Batch
    unseen: Batch

    @property
    def truth(self) -> Tensor:
        """The images (8, 1, 8, 8) that the people hold, in [0, 1], float64."""
        return torch.cat([person.images for person in self.people]).double()

    @property
    def all(self) -> Batch:
        """All people's digits as one batch."""
        return Batch(self.truth, torch.cat([person.labels for person in self.people]))

    @property
    def average(self) -> Tensor:
        """The mean (1, 8, 8) of the digits that the attacker has, which is the best guess without any update."""
        return self.training.images.double().mean(dim=0)


@lru_cache
def split() -> tuple[tuple[Batch, ...], Batch, Batch]:
    """The people, the digits for training and those for testing."""
    digits = data.load("digits")
    order = torch.randperm(len(digits.labels), generator=torch.Generator().manual_seed(0))
    test, first = order[:297], dict[int, int]()
    for index in test.tolist():
        first.setdefault(int(digits.labels[index]), index)
    people = tuple(digits.batch(index) for index in list(first.values())[:PEOPLE])
    return people, digits.batch(order[297:]), digits.batch(test)


def built(network: str) -> nn.Module:
    """A fresh network of the matrix. Raises ValueError for an unknown name."""
    if network not in NETWORKS:
        raise ValueError(f"unknown network {network!r}; the matrix has {', '.join(NETWORKS)}.")
    return NETWORKS[network]()


def scene(network: str, stage: int, *, start: nn.Module | None = None) -> Scene:
    """The scene of a network after ``stage`` steps of training from ``start``, or from how it is built."""
    people, training, unseen = split()
    first = built(network) if start is None else start
    return Scene(train(first, training, stages=[stage])[stage], people, training, unseen)


@lru_cache
def generator() -> nn.Module:
    """What the attacker's generator draws: digits, learned from those for training."""
    return train_decoder(decoder(LATENT), split()[1].images, latent=LATENT)
