"""Defenses of the matrix that mix a client's images with one another: MixUp and InstaHide."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gilib.data import Batch
from gilib.defenses import obscuration
from gilib.federated import Client, Update, seeded_generator
from gilib.matrix.attacks import AttackEntry
from gilib.matrix.defenses import DefenseEntry
from gilib.matrix.rounds import View
from gilib.matrix.scenes import Scene


@dataclass(frozen=True)
class Mixed(DefenseEntry):
    """One client who holds an image of every class and mixes them: in a round an update for each, of its encoding.

    The plain attacker takes an encoding of the first round for the image. The adaptive one takes the encodings of all
    rounds apart, with the weights that the mixed labels give away. The signs that InstaHide leaves open follow from
    what images look like.
    """

    def victims(self, scene: Scene) -> Tensor:
        """The first image of each class."""
        mixed, first = torch.randperm(len(scene.private), generator=seeded_generator(scene.seed)), dict[int, int]()
        for index in mixed.tolist():
            first.setdefault(int(scene.private.labels[index]), index)
        return torch.tensor([first[label] for label in sorted(first)])

    def clients(self, scene: Scene, model: nn.Module) -> list[Client]:
        """The one client, once for each of its images, with draws of its own."""
        own = self.victims(scene)
        pool = Batch(scene.private.images[own], scene.private.labels[own])
        [mixing] = self.defenses
        assert isinstance(mixing, obscuration.Mixing)
        every = [self.client(scene, model, person) for person in range(len(own))]
        return [replace(one, defenses=(replace(mixing, pool=pool),)) for one in every]

    def sent(self, scene: Scene, clients: Sequence[Client], round: int) -> tuple[Update, ...]:
        """One update for each image, which leads its encoding."""
        singles = [Batch(scene.private.images[[i]], scene.private.labels[[i]]) for i in self.victims(scene).tolist()]
        return tuple(one.update(single, round=round) for one, single in zip(clients, singles, strict=True))

    def plain(self, attack: AttackEntry, view: View) -> Tensor:
        """The encodings of the first round."""
        return super().plain(attack, replace(view, models=view.models[:1], sent=view.sent[:1]))

    def adaptive(self, attack: AttackEntry, view: View) -> Tensor:
        """The images behind all encodings, round after round."""
        labels, found = view.scene.private.labels[self.victims(view.scene)], []
        for model, updates in zip(view.models, view.sent, strict=True):
            found.append(attack.find(replace(view, models=(model,), sent=(updates,)), self.adaptation).double())
        mixed = torch.cat([one.labels for updates in view.sent for one in updates if one.labels is not None])
        if self.flips:
            return obscuration.decode(torch.cat(found), mixed[:, labels], like=view.scene.public.images)
        return obscuration.unmix(torch.cat(found), mixed[:, labels])

    def differs(self, attack: AttackEntry, view: View) -> bool:
        """It does."""
        return True

    def logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """The mean answer for ten versions with flipped pixels, where the network was trained on such."""
        if not self.flips:
            return super().logits(model, images)
        draws = torch.rand((10, *images.shape), generator=seeded_generator(0), dtype=torch.float64).to(images)
        votes = [model(torch.where(draw < 0.5, 1 - images, images)).softmax(dim=1) for draw in draws]
        return torch.stack(votes).sum(dim=0)

    @property
    def flips(self) -> bool:
        """Whether signs are flipped."""
        [mixing] = self.defenses
        return isinstance(mixing, obscuration.Mixing) and mixing.flip
