"""What parties can do to what they send: noise, fake gradients, and indices that are not the true ones."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gilib.federated import seeded_generator
from gilib.frontiers.vertical.federation import VerticalUpdate

Change = Callable[[Tensor, torch.Generator], Tensor]


def noisy(update: VerticalUpdate, *, scale: float, seed: int) -> VerticalUpdate:
    """The round with Gaussian noise in every gradient: a standard deviation of ``scale`` times its root mean square.

    A yardstick for attacks. It promises nobody anything, since the noise follows the data.

    Taught in: frontiers/vertical.
    """

    def change(value: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64, device="cpu")
        return value + scale * value.square().mean().sqrt() * noise.to(value)

    return _changed(update, change, seed)


def fake(update: VerticalUpdate, *, deviation: float, seed: int, draws: int = 2) -> VerticalUpdate:
    """The round with fake gradients: random numbers in the order of the true ones.

    For every gradient ``draws`` sets of normal numbers with this standard ``deviation`` are drawn and sorted. The set
    that is nearest to the sorted truth is sent, its largest number in the place of the truth's largest, and so on. What
    is left of the truth is the order.

    Known as: fake gradients (defense). Needs nothing of anybody else.
    Source: the idea of Jin et al. (2021), as a public reimplementation describes it. Taught in: frontiers/vertical.
    """

    def change(value: Tensor, generator: torch.Generator) -> Tensor:
        order, (size,) = value.flatten().argsort(), value.flatten().shape
        truth = value.flatten()[order].double()
        sets = torch.randn(draws, size, generator=generator, dtype=torch.float64, device="cpu") * deviation
        sets = sets.sort(dim=1).values
        nearest = sets[(sets - truth).square().sum(dim=1).argmin()]
        sent = torch.empty_like(value.flatten())
        sent[order] = nearest.to(value)
        return sent.reshape(value.shape)

    return _changed(update, change, seed)


def unfaked(updates: Sequence[VerticalUpdate], public: Sequence[VerticalUpdate]) -> list[VerticalUpdate]:
    """A guess of the truth behind fake gradients: numbers of public rounds in the order of the fakes.

    ``public`` are honest rounds of the same models on public samples. The largest number of a gradient becomes the mean
    of the largest of the public ones, and so on down.

    Source: ours. Taught in: frontiers/vertical.
    """

    def usual(values: Sequence[Tensor]) -> Tensor:
        return torch.stack([value.flatten().sort().values for value in values]).mean(dim=0)

    def guessed(value: Tensor, sizes: Tensor) -> Tensor:
        guess = torch.empty_like(sizes)
        guess[value.flatten().argsort()] = sizes
        return guess.reshape(value.shape)

    parts = [
        {name: usual([one.gradients[k][name] for one in public]) for name in part}
        for k, part in enumerate(public[0].gradients)
    ]
    top = {name: usual([one.top[name] for one in public]) for name in public[0].top}
    return [
        replace(
            update,
            gradients=tuple(
                {name: guessed(value, sizes[name]) for name, value in part.items()}
                for part, sizes in zip(update.gradients, parts, strict=True)
            ),
            top={name: guessed(value, top[name]) for name, value in update.top.items()},
        )
        for update in updates
    ]


def under_other_indices(update: VerticalUpdate, samples: int, *, seed: int) -> VerticalUpdate:
    """The round as the server sees it where the parties tell it indices drawn at random, as many as there were.

    The parties agree on the true ones among themselves.

    Source: ours. Taught in: frontiers/vertical.
    """
    told = torch.randperm(samples, generator=seeded_generator(seed))[: len(update.indices)]
    return replace(update, indices=tuple(told.tolist()))


def _changed(update: VerticalUpdate, change: Change, seed: int) -> VerticalUpdate:
    """Every gradient changed, each with draws of its own."""
    generator = seeded_generator(seed)
    parts = [{name: change(value, generator) for name, value in part.items()} for part in update.gradients]
    top = {name: change(value, generator) for name, value in update.top.items()}
    return replace(update, gradients=tuple(parts), top=top)
