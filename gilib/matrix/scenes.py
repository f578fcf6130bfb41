"""Where the matrix plays: a network, the people who are attacked, and the images that everybody has."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gilib import data, models
from gilib.data import Batch
from gilib.federated import seeded_generator, train
from gilib.generators import decoder, train_decoder
from gilib.studies import key

T = TypeVar("T")

LATENT = 16
FIRST_PRIVATE = 1415
"""The digits from here on were written by other people than those before (iteration/generative shows how one sees)."""

HELD_OUT = 80
"""The first crops of the photographs, eight of each, on which nobody trains."""

ROOM = 2
_SHELVES: dict[str, OrderedDict[str, Any]] = {}


@dataclass(frozen=True, eq=False)
class Scene:
    """A federation before anybody defends it: the network, the people under attack, and what is public.

    ``network`` builds the model for a seed, for images like those of ``private`` and ``public``. ``people`` people hold
    ``batch`` images of ``private`` each, drawn by ``seed``; no image is held twice. The others of the federation hold
    the ``public`` images: the network is trained on those, the attacker has them too, and nobody under attack is among
    them. Accuracy is the share of ``private`` that the trained network gets right.

    ``cohort`` of the others take part in a round, with ``batch`` images each, and the server takes a step of SGD with
    ``rate`` and momentum 0.9. ``stages`` are the rounds in which an attack begins. Raises ValueError where there are
    too few images.
    """

    name: str
    network: Callable[[int], nn.Module]
    private: Batch
    public: Batch
    people: int = 16
    batch: int = 1
    seed: int = 0
    cohort: int = 16
    rate: float = 0.1
    stages: tuple[int, ...] = (0, 20, 100)

    def __post_init__(self) -> None:
        for kind, images, count in (
            ("private", self.private.images, self.people),
            ("public", self.public.images, self.cohort),
        ):
            if len(images) < count * self.batch:
                raise ValueError(
                    f"scene {self.name!r} needs {count * self.batch} {kind} images, {count} times {self.batch}; it has "
                    f"{len(images)}. Give it more, or fewer people."
                )
        if self.private.images.shape[1:] != self.public.images.shape[1:]:
            raise ValueError(
                f"scene {self.name!r}: private images are {tuple(self.private.images.shape[1:])} and public ones "
                f"{tuple(self.public.images.shape[1:])}. Resize one of them."
            )
        if not self.stages or list(self.stages) != sorted(set(self.stages)) or self.stages[0] < 0:
            raise ValueError(f"scene {self.name!r}: stages must rise from 0 or more; got {self.stages}.")

    def built(self) -> nn.Module:
        """The network before any training. Raises ValueError where it does not take the images."""
        model = self.network(self.seed)
        like = next(model.parameters(), None)
        try:
            with torch.no_grad():
                logits = model(self.public.images[:1].to(torch.float32 if like is None else like))
        except RuntimeError as error:
            raise ValueError(f"the network of scene {self.name!r} does not take its images: {error}") from error
        if logits.ndim != 2 or logits.shape[1] <= int(self.public.labels.max()):
            raise ValueError(
                f"the network of scene {self.name!r} must return one logit a class, (1, {self.classes}) or wider, for "
                f"one image; it returns {tuple(logits.shape)}."
            )
        return model

    @property
    def classes(self) -> int:
        """How many classes the labels have."""
        return int(max(self.public.labels.max(), self.private.labels.max())) + 1

    @property
    def pixels(self) -> int:
        """The numbers of an image."""
        return self.public.images[0].numel()

    @property
    def own(self) -> Tensor:
        """Which of the private images the people hold (people * batch,), person after person."""
        mixed = torch.randperm(len(self.private), generator=seeded_generator(self.seed))
        return mixed[: self.people * self.batch]

    @property
    def held(self) -> tuple[Batch, ...]:
        """What each of the people holds."""
        return tuple(Batch(self.private.images[own], self.private.labels[own]) for own in self.own.split(self.batch))

    @property
    def together(self) -> Batch:
        """All people's images as one batch."""
        return Batch(self.private.images[self.own], self.private.labels[self.own])

    @property
    def everything(self) -> Tensor:
        """All images, the private ones first, among which an image is to be named."""
        return torch.cat([self.private.images, self.public.images])

    @property
    def average(self) -> Tensor:
        """The mean (C, H, W) of the public images, which is the best guess without any update."""
        return self.public.images.double().mean(dim=0)

    def others(self, round: int) -> tuple[Batch, ...]:
        """Who takes part in a round of the training: ``cohort`` people with public images."""
        chosen = torch.randperm(len(self.public), generator=seeded_generator(self.seed, 1, round))
        parts = chosen[: self.cohort * self.batch].split(self.batch)
        return tuple(Batch(self.public.images[part], self.public.labels[part]) for part in parts)


def remembered(kind: str, settings: object, make: Callable[[], T]) -> T:
    """What ``make`` returns for these settings; the last few of each kind are remembered within a process."""
    shelf, name = _SHELVES.setdefault(kind, OrderedDict()), key(settings)
    if name not in shelf:
        shelf[name] = make()
    shelf.move_to_end(name)
    while len(shelf) > ROOM:
        shelf.popitem(last=False)
    return shelf[name]


def generator(scene: Scene) -> nn.Module:
    """What the attacker's generator draws, learned from the public images."""
    _, channels, size, _ = scene.public.images.shape
    fresh = decoder(LATENT, channels=channels, size=size)
    settings = [scene.public, LATENT]
    return remembered("generator", settings, lambda: train_decoder(fresh, scene.public.images, latent=LATENT))


def reader(scene: Scene) -> nn.Module:
    """A network of the attacker's own, trained on the public images, that reads what came back."""
    _, channels, size, _ = scene.public.images.shape
    fresh = models.lenet(scene.classes, channels=channels, size=size, width=16, activation="tanh", bound=0.15).double()
    return remembered("reader", scene.public, lambda: train(fresh, scene.public, stages=[600], learning_rate=0.02)[600])


@cache
def digits() -> tuple[Batch, Batch]:
    """Private and public digits of 8 x 8 pixels: no writer is in both."""
    found = data.load("digits")
    return found.batch(range(FIRST_PRIVATE, len(found))), found.batch(range(FIRST_PRIVATE))


@cache
def photographs() -> tuple[Batch, Batch]:
    """Private and public crops of ten colour photographs, 32 x 32; the label is the photograph."""
    found = data.load("photos")
    return found.batch(range(HELD_OUT)), found.batch(range(HELD_OUT, len(found)))
