"""Patience: several rounds in which people send updates for the same images, as one update of a larger network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gilib.federated import Gradients, Loss, Update, as_targets, logits_of
from gilib.iteration.matching import Matching
from gilib.matrix.scenes import Scene


@dataclass(frozen=True, eq=False)
class View:
    """What an adversary looks at: the models of some rounds in a row, and what was ``sent`` in each, sender by sender.

    The senders are the people of the scene, or the one sum that a protocol leaves.
    """

    scene: Scene
    models: tuple[nn.Module, ...]
    sent: tuple[tuple[Update, ...], ...]

    @property
    def senders(self) -> list[list[Update]]:
        """The updates of each sender, in the order of the rounds."""
        return [list(updates) for updates in zip(*self.sent, strict=True)]


class Rounds(nn.Module):
    """The models of several rounds side by side: their logits one after another, (B, rounds * K)."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.rounds = nn.ModuleList(models)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to all logits."""
        return torch.cat([model(images) for model in self.rounds], dim=-1)


@dataclass(frozen=True)
class RoundLoss:
    """The sum of the rounds' losses, whose gradient by the model of a round is that round's gradient."""

    loss: Loss
    rounds: int

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Of logits and targets (B, rounds * K)."""
        parts = zip(logits.chunk(self.rounds, dim=-1), targets.chunk(self.rounds, dim=-1), strict=True)
        return torch.stack([self.loss(z, y) for z, y in parts]).sum()


def joined(models: Sequence[nn.Module], updates: Sequence[Update]) -> Update:
    """One update of ``Rounds(models)`` from the updates of one sender, whose labels are shared.

    Several local steps stay what they are, since no round's parameters enter another's loss.
    """
    first, targets = updates[0], []
    for model, update in zip(models, updates, strict=True):
        assert update.labels is not None
        with torch.no_grad():
            classes = logits_of(model(next(model.parameters()).new_zeros(1, *update.image_shape))).shape[-1]
        targets.append(as_targets(update.labels, classes))
    gradients = {
        f"rounds.{place}.{name}": value
        for place, update in enumerate(updates)
        for name, value in update.gradients.items()
    }
    return replace(
        first, gradients=gradients, labels=torch.cat(targets, dim=-1), loss=RoundLoss(first.loss, len(updates))
    )


@dataclass(frozen=True)
class Owed:
    """Another matching, for clients with error feedback who send the same images again, over several rounds.

    An entry that is sent is the sum of its gradients since it was sent last. The candidate's is computed alike.
    """

    matching: Matching

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor:
        """The distance over what was sent in any of the rounds."""
        owing: Gradients = {}
        sent: Gradients = {}
        for name, value in shared.items():  # a layer's rounds follow one another
            layer = name.split(".", 2)[2]
            total = candidate[name] + owing[layer] if layer in owing else candidate[name]
            sent[name] = total * (value != 0)
            owing[layer] = total - sent[name]
        return self.matching(sent, shared)
