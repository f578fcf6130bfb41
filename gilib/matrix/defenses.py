"""The defenses of the matrix: what people send, who looks at it, and how an attacker who knows of it answers."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from gilib.data import Batch
from gilib.defenses import obscuration
from gilib.defenses.model import Branched, public_gradients, secret_branch
from gilib.federated import Client, Defense, Gradients, LocalTraining, Loss, Update, cross_entropy
from gilib.matrix.attacks import Adaptation, AttackEntry, linear_loss
from gilib.matrix.rounds import View
from gilib.matrix.scenes import Scene

EACH = "the server, which sees every update"


@dataclass(frozen=True)
class DefenseEntry:
    """A row of the matrix: ``defenses`` as each client has them, and how an attacker who knows them answers.

    ``adversary`` says who looks at what. ``strength`` is what the table says of the settings. ``rate`` multiplies the
    scene's learning rate, and ``longer`` its rounds of training. ``bits`` is what each number of an update takes; None
    where zeros are left out: then every other number takes 64, for its value and its place. With ``alike`` the mean of
    the people's updates is the update of all their images, which is faster to compute.
    """

    name: str
    family: str
    strength: str = ""
    defenses: tuple[Defense, ...] = ()
    adaptation: Adaptation = field(default_factory=Adaptation)
    rate: float = 1.0
    longer: int = 1
    bits: int | None = 32
    alike: bool = True
    adversary: str = EACH
    loss: Loss = cross_entropy

    def network(self, scene: Scene) -> nn.Module:
        """The network that clients train, before any training."""
        return self.client(scene, scene.built()).improved()

    def client(self, scene: Scene, model: nn.Module, person: int = 0) -> Client:
        """One of the people, who shares the label too, and whose defenses remember nothing yet."""
        secret = 1_000 * scene.seed + person
        return Client(
            model, loss=self.loss, defenses=copy.deepcopy(self.defenses), share_labels=True, seed=secret, mode="eval"
        )

    def victims(self, scene: Scene) -> Tensor:
        """Which of the scene's private images are under attack."""
        return scene.own

    def clients(self, scene: Scene, model: nn.Module) -> list[Client]:
        """All the people under attack."""
        return [self.client(scene, model, person) for person in range(scene.people)]

    def sent(self, scene: Scene, clients: Sequence[Client], round: int) -> tuple[Update, ...]:
        """What the adversary sees of the people's updates in a round."""
        return tuple(one.update(batch, round=round) for one, batch in zip(clients, scene.held, strict=True))

    def view(self, scene: Scene, models: Sequence[nn.Module], start: int = 0) -> View:
        """What the adversary sees in as many rounds as there are ``models``, from round ``start`` on."""
        first, seen = self.clients(scene, models[0]), []
        for place, model in enumerate(models):
            clients = [replace(one, model=model) for one in first]
            seen.append(self.sent(scene, clients, start + place))
        return self.shown(View(scene, tuple(models), tuple(seen)))

    def shown(self, view: View) -> View:
        """What the server has of it: all, unless clients keep a part of the model."""
        return view

    def mean(self, scene: Scene, model: nn.Module, others: Sequence[Batch], round: int) -> Gradients:
        """By what the server steps in a round of the training: the mean of what ``others`` send."""
        if self.alike:
            together = Batch(torch.cat([one.images for one in others]), torch.cat([one.labels for one in others]))
            return dict(self.client(scene, model, person=round).update(together, round=round).gradients)
        updates = [
            self.client(scene, model, person=100 + place).update(batch, round=round)
            for place, batch in enumerate(others)
        ]
        return {
            name: torch.stack([one.gradients[name] for one in updates]).mean(dim=0) for name in updates[0].gradients
        }

    def plain(self, attack: AttackEntry, view: View) -> Tensor:
        """Images from an attacker who takes every update for the plain gradient of the images."""
        seen = tuple(tuple(unaware(update) for update in updates) for updates in view.sent)
        return attack.find(replace(view, sent=seen), Adaptation())

    def adaptive(self, attack: AttackEntry, view: View) -> Tensor:
        """Images from an attacker who knows what the defense makes public."""
        return attack.find(view, self.adaptation)

    def differs(self, attack: AttackEntry, view: View) -> bool:
        """Whether the attacker who knows may do anything else than the one who does not."""
        return attack.answers(self.adaptation) or any(update.local != LocalTraining() for update in view.sent[0])

    def logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """The logits (N, K) that whoever uses the trained network gets for images (N, C, H, W)."""
        found: Tensor = model(images)
        return found

    def sent_bytes(self, scene: Scene) -> int:
        """Bytes that one person sends."""
        update = self.clients(scene, self.network(scene))[0].update(scene.held[0])
        values = torch.cat([value.flatten() for value in update.gradients.values()])
        return int((values != 0).sum()) * 8 if self.bits is None else (len(values) * self.bits + 7) // 8


@dataclass(frozen=True)
class Transformed(DefenseEntry):
    """Distorted images. The adaptive attacker undoes the distortion, which is public."""

    def adaptive(self, attack: AttackEntry, view: View) -> Tensor:
        """What was found, with the policy undone."""
        return obscuration.undo(self.policy, attack.find(view, self.adaptation).double(), start=view.scene.average)

    def differs(self, attack: AttackEntry, view: View) -> bool:
        """It does."""
        return True

    @property
    def policy(self) -> obscuration.Policy:
        """The transformations."""
        [transforming] = self.defenses
        assert isinstance(transforming, obscuration.Transforming)
        return transforming.policy

    def logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """For the distorted images: the policy is public, so whoever uses the network can apply it."""
        return super().logits(model, obscuration.apply(self.policy, images))


@dataclass(frozen=True)
class Branch(DefenseEntry):
    """Clients who keep a branch of the network, and its gradients, to themselves.

    The plain attacker knows the public part and the label. The adaptive one reads ``p - y`` off the bias gradient of
    the last layer ``last``, which has all that the branch and the label do to the public gradients; for several images
    or steps it does as the plain one.
    """

    last: str = "linear.bias"

    def client(self, scene: Scene, model: nn.Module, person: int = 0) -> Client:
        """A client whose branch fits the images."""
        return replace(super().client(scene, model, person), defenses=(secret_branch(scene.pixels),))

    def shown(self, view: View) -> View:
        """The public part, with updates named as in it."""
        parts, seen = [], []
        for model, updates in zip(view.models, view.sent, strict=True):
            assert isinstance(model, Branched)
            parts.append(model.public)
            seen.append(tuple(replace(one, gradients=public_gradients(one.gradients)) for one in updates))
        return View(view.scene, tuple(parts), tuple(seen))

    def adaptive(self, attack: AttackEntry, view: View) -> Tensor:
        """What explains the gradients of a loss that is linear in the logits."""
        if not self.differs(attack, view):
            return attack.find(view, self.adaptation)
        read = [
            tuple(replace(one, labels=one.gradients[self.last][None], loss=linear_loss) for one in updates)
            for updates in view.sent
        ]
        return attack.find(replace(view, sent=tuple(read)), self.adaptation)

    def differs(self, attack: AttackEntry, view: View) -> bool:
        """For one image and a step."""
        return view.sent[0][0].batch_size == 1

    def logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """Those of the public part: whoever uses the network has no branch."""
        assert isinstance(model, Branched)
        found: Tensor = model.public(images)
        return found


def unaware(update: Update) -> Update:
    """The update as the plain gradient of one step."""
    return replace(update, local=LocalTraining())
