"""Who is attacked in the studies: photographs that the network was not trained on, and networks of a stated stage."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torchvision
from torch import nn

from bench.studies.device import device
from gilib import data, models
from gilib.data import Batch, Dataset
from gilib.federated import train

HELD_OUT = 80
"""The first crops, eight of each photograph, are the victims and the test; networks are trained on the other 160."""

NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "LeNet": lambda width, seed: models.lenet(width=width, seed=seed),
    "ResNet-8": lambda width, seed: models.resnet(blocks=1, width=width, seed=seed),
    "ResNet-8, GELU": lambda width, seed: models.resnet(blocks=1, width=width, activation="gelu", seed=seed),
    "ResNet-8, no pooling": lambda width, seed: _without_pooling(width, seed),
    "ResNet-20": lambda width, seed: models.resnet(blocks=3, width=width, seed=seed),
    "ResNet-18": lambda width, seed: _resnet18(seed),
}
"""By width and seed. All but the first and last are residual networks for small images; the last is torchvision's."""


@dataclass(frozen=True)
class Net:
    """A network of `NETWORKS` after ``stage`` steps of SGD on the photographs that nobody here holds.

    The residual networks name most held-out crops after 150 steps, the LeNet after 600.
    """

    name: str
    width: int = 16
    stage: int = 0
    seed: int = 0

    def built(self) -> nn.Module:
        """The network on the device of the studies, in eval mode, float32."""
        return _trained(self)

    def right(self) -> float:
        """The share of the held-out crops that it names."""
        model, held = self.built(), photographs().batch(range(HELD_OUT))
        with torch.no_grad():
            return (model(held.images.to(device())).argmax(dim=1).cpu() == held.labels).double().mean().item()

    def __str__(self) -> str:
        return f"{self.name} of width {self.width} after {self.stage} steps, seed {self.seed}"


@lru_cache
def photographs() -> Dataset:
    """The 240 crops of ten photographs, 32 x 32."""
    return data.load("photos")


def held_out(first: int, victims: int, batch: int) -> list[Batch]:
    """The batches of ``victims`` clients, from crop ``first`` on, wrapping around within the held-out crops.

    Neighbouring crops show different photographs, so that a batch of up to ten has no label twice.
    """
    wanted = [(first + place) % HELD_OUT for place in range(victims * batch)]
    return [photographs().batch(wanted[at : at + batch]) for at in range(0, len(wanted), batch)]


@lru_cache(maxsize=4)
def _trained(net: Net) -> nn.Module:
    model = NETWORKS[net.name](net.width, net.seed)
    others = photographs().batch(range(HELD_OUT, len(photographs())))
    # Trained by the processor: a card adds in no fixed order, so that every process would have a network of its own.
    return train(model, others, stages=[net.stage], learning_rate=0.05, seed=net.seed)[net.stage].to(device())


def _without_pooling(width: int, seed: int) -> nn.Module:
    """ResNet-8 whose last layer sees every position instead of the average over positions."""
    layers = OrderedDict(models.resnet(blocks=1, width=width, seed=seed).named_children())
    del layers["pool"]
    layers["linear"] = models.blank_linear(4 * width * 8 * 8, 10)
    return models.draw_weights(nn.Sequential(layers), seed=seed)


def _resnet18(seed: int) -> nn.Module:
    """Torchvision's, for ten classes. Its own initialization, from a generator that nobody else uses."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torchvision.models.resnet18(weights=None, num_classes=10)
