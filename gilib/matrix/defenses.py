"""The defenses of the matrix: what the client does, how an attacker who knows of it answers, and what is sent."""

import copy
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from gilib import metrics
from gilib.defenses import obscuration
from gilib.defenses.aggregation_messages import Agreement, flat, mean_update
from gilib.defenses.encryption import FixedPoint, ckks_keys
from gilib.defenses.model import Branched
from gilib.defenses.secure_aggregation import PROTOCOLS, Round, aggregate
from gilib.federated import Client, Defense, LocalTraining, Update, seeded_generator
from gilib.matrix.attacks import Adaptation, AttackEntry
from gilib.matrix.scenes import Scene, built, scene


@dataclass(frozen=True)
class DefenseEntry:
    """A column of the matrix: ``defenses`` as the client has them, and how an attacker who knows them answers.

    ``strength`` is what the table says of the settings. ``rounds``, ``rate`` and ``momentum`` are those of the training
    that measures accuracy. ``bits`` is what each number of an update takes, None where zeros are left out: then every
    other number takes 64, for its value and its place.
    """

    name: str
    family: str
    strength: str = ""
    defenses: tuple[Defense, ...] = ()
    adaptation: Adaptation = field(default_factory=Adaptation)
    rounds: int = 300
    rate: float = 0.05
    momentum: float = 0.9
    bits: int | None = 32

    def network(self, name: str) -> nn.Module:
        """The network that clients train, before any training."""
        return self.client(built(name)).improved()

    def scene(self, network: str, stage: int) -> Scene:
        """The stage on which this defense is attacked: its network after undefended training, without draws."""
        return scene(network, stage, start=self.network(network))

    def client(self, model: nn.Module, *, seed: int = 0) -> Client:
        """One of the people, who shares the label too, and whose defenses remember nothing yet."""
        return Client(model, defenses=copy.deepcopy(self.defenses), share_labels=True, seed=seed)

    def updates(self, at: Scene) -> list[Update]:
        """What the people send."""
        return [self.client(at.model, seed=seed).update(person) for seed, person in enumerate(at.people)]

    def known(self, model: nn.Module) -> nn.Module:
        """What the server has of the model that is trained: all of it, unless clients keep a part."""
        return model

    def plain(self, attack: AttackEntry, at: Scene) -> Tensor:
        """Images (8, 1, 8, 8) from an attacker who takes every update for the plain gradient of one image."""
        return attack.find(self.known(at.model), [unaware(update) for update in self.updates(at)], Adaptation())

    def adaptive(self, attack: AttackEntry, at: Scene) -> Tensor:
        """Images (8, 1, 8, 8) from an attacker who knows what the defense makes public."""
        return attack.find(self.known(at.model), self.updates(at), self.adaptation)

    def answers(self, model: nn.Module, images: Tensor) -> Tensor:
        """The labels (N,) that whoever uses the trained network gets for new images (N, C, H, W)."""
        logits: Tensor = model(images)
        return logits.argmax(dim=1)

    def sent_bytes(self, at: Scene) -> int:
        """Bytes that one person sends."""
        values = torch.cat([value.flatten() for value in self.updates(at)[0].gradients.values()])
        return int((values != 0).sum()) * 8 if self.bits is None else (len(values) * self.bits + 7) // 8


@dataclass(frozen=True)
class Mixed(DefenseEntry):
    """A client who holds all eight digits and mixes them, for ``seen`` rounds on the same model.

    The plain attacker takes an encoding for the digit. The adaptive one takes the encodings of all rounds apart, with
    the weights that the mixed labels give away. The signs that InstaHide leaves open follow from what digits look like.
    """

    seen: int = 8

    @property
    def mixing(self) -> obscuration.Mixing:
        """The one defense."""
        [mixing] = self.defenses
        assert isinstance(mixing, obscuration.Mixing)
        return mixing

    def updates(self, at: Scene) -> list[Update]:
        """One update a round, each of another of the digits in turn, mixed with the others."""
        client = replace(self.client(at.model), defenses=(replace(self.mixing, pool=at.all),))
        return [client.update(at.people[turn % len(at.people)], round=turn) for turn in range(self.seen)]

    def plain(self, attack: AttackEntry, at: Scene) -> Tensor:
        """The encodings of the first eight rounds."""
        return attack.find(at.model, self.updates(at)[: len(at.people)], Adaptation())

    def adaptive(self, attack: AttackEntry, at: Scene) -> Tensor:
        """The digits behind all encodings."""
        updates = self.updates(at)
        encodings = attack.find(at.model, updates, self.adaptation).double()
        labels = torch.cat([update.labels for update in updates if update.labels is not None])
        weights = labels[:, at.all.labels]
        if self.mixing.flip:
            return obscuration.decode(encodings, weights, like=at.training.images)
        return obscuration.unmix(encodings, weights)

    def answers(self, model: nn.Module, images: Tensor) -> Tensor:
        """The mean answer for ten versions with flipped pixels, where the network was trained on such."""
        if not self.mixing.flip:
            return super().answers(model, images)
        draws = torch.rand((10, *images.shape), generator=seeded_generator(0), dtype=images.dtype)
        votes = [model(torch.where(draw < 0.5, 1 - images, images)).softmax(dim=1) for draw in draws]
        return torch.stack(votes).sum(dim=0).argmax(dim=1)


@dataclass(frozen=True)
class Transformed(DefenseEntry):
    """Distorted images. The adaptive attacker undoes the distortion, which is public."""

    def adaptive(self, attack: AttackEntry, at: Scene) -> Tensor:
        """What was found, with the policy undone."""
        found = attack.find(at.model, self.updates(at), self.adaptation)
        return obscuration.undo(self.policy, found, start=at.average)

    @property
    def policy(self) -> obscuration.Policy:
        """The transformations."""
        [transforming] = self.defenses
        assert isinstance(transforming, obscuration.Transforming)
        return transforming.policy

    def answers(self, model: nn.Module, images: Tensor) -> Tensor:
        """For the distorted images: the policy is public, so whoever uses the network can apply it."""
        return super().answers(model, obscuration.apply(self.policy, images))


@dataclass(frozen=True)
class Owing(DefenseEntry):
    """Error feedback: people send the same digit ``seen`` times for the same model, each time what they owe most.

    All that was ever sent of an entry is its gradient times the number of the last round in which it was sent. The
    adaptive attacker divides.
    """

    seen: int = 1

    def adaptive(self, attack: AttackEntry, at: Scene) -> Tensor:
        """What explains the entries that were read off."""
        return attack.find(at.model, [self._read(at, seed) for seed in range(len(at.people))], self.adaptation)

    def _read(self, at: Scene, seed: int) -> Update:
        """One person's gradient, with zeros where nothing was sent in any round."""
        client = self.client(at.model, seed=seed)
        sent = [client.update(at.people[seed], round=turn) for turn in range(self.seen)]
        gradients = {}
        for name in sent[0].gradients:
            values = torch.stack([one.gradients[name] for one in sent])
            turns = torch.arange(1, self.seen + 1).reshape(-1, *[1] * (values.ndim - 1))
            gradients[name] = values.sum(dim=0) / (turns * (values != 0)).amax(dim=0).clamp(min=1)
        return replace(sent[0], gradients=gradients)


@dataclass(frozen=True)
class Branch(DefenseEntry):
    """Clients who keep a branch of the network, and its gradients, to themselves.

    The plain attacker knows the public part and the label. The adaptive one reads ``p - y`` off the bias gradient of
    the last layer ``last``, which has all that the branch and the label do to the public gradients.
    """

    last: str = "linear"

    def updates(self, at: Scene) -> list[Update]:
        """What people send, named as in the public part."""
        return [
            replace(one, gradients={name.removeprefix("public."): value for name, value in one.gradients.items()})
            for one in super().updates(at)
        ]

    def known(self, model: nn.Module) -> nn.Module:
        """The public part."""
        assert isinstance(model, Branched)
        return model.public

    def adaptive(self, attack: AttackEntry, at: Scene) -> Tensor:
        """What explains the gradients of a loss that is linear in the logits."""
        read = [
            replace(one, labels=one.gradients[f"{self.last}.bias"][None], loss=linear_loss) for one in self.updates(at)
        ]
        return attack.find(self.known(at.model), read, self.adaptation)


@dataclass(frozen=True)
class Narrow(DefenseEntry):
    """Other networks, with fewer filters: ``networks`` are pairs of a name and the network to use instead."""

    networks: tuple[tuple[str, nn.Module], ...] = ()

    def network(self, name: str) -> nn.Module:
        """The narrow network."""
        return dict(self.networks)[name]


@dataclass(frozen=True)
class Summed(DefenseEntry):
    """Secure aggregation by masking: the server learns the mean update of all eight people and nothing else.

    The sum is that of a real round, in fixed point of ``precision`` bits. The plain attacker takes the mean for the
    update of one person. The adaptive one knows that it is a batch of eight and, since labels are shared everywhere in
    this matrix, which labels occur in it.
    """

    precision: int = 26

    def updates(self, at: Scene) -> list[Update]:
        """The one mean update."""
        played, every = self._played(at)
        return [replace(mean_update(played.sums, every), labels=at.all.labels)]

    def plain(self, attack: AttackEntry, at: Scene) -> Tensor:
        """One image, taken for each person's."""
        [update] = self.updates(at)
        assert update.labels is not None
        images = attack.find(at.model, [replace(update, batch_size=1, labels=update.labels[:1])], Adaptation())
        return images.expand(at.truth.shape)

    def adaptive(self, attack: AttackEntry, at: Scene) -> Tensor:
        """Eight images, in the order in which they fit best."""
        images = attack.find(at.model, self.updates(at), self.adaptation)
        return images[metrics.match(images, at.truth)]

    def sent_bytes(self, at: Scene) -> int:
        """Bytes of all messages that one person sends in the round."""
        played, _ = self._played(at)
        return sum(played.sent[0].values())

    def _played(self, at: Scene) -> tuple[Round, list[Update]]:
        """A round among the people, of whom six are needed, and what each of them put in."""
        every = super().updates(at)
        vectors = [flat(one) for one in every]
        codec = FixedPoint(self.precision, bound=8.0, clients=len(every))
        agreed = Agreement(len(vectors[0]), len(every), private=5, needed=6, codec=codec)
        return aggregate(PROTOCOLS["masking"], agreed, vectors), every


@dataclass(frozen=True)
class Encrypted(DefenseEntry):
    """Homomorphic encryption (CKKS): the server holds ciphertexts, so that it can only guess.

    Every attacker's image is the mean of the digits that the attacker has. What the holder of the key sees is the sum,
    as under secure aggregation.
    """

    def plain(self, attack: AttackEntry, at: Scene) -> Tensor:
        """The guess."""
        return at.average.expand(at.truth.shape)

    adaptive = plain

    def sent_bytes(self, at: Scene) -> int:
        """Bytes of one person's ciphertexts."""
        public, _ = ckks_keys()
        return public.encrypt(self.updates(at)[0]).size


def unaware(update: Update) -> Update:
    """The update as the plain gradient of one step."""
    return replace(update, local=LocalTraining())


def linear_loss(logits: Tensor, slopes: Tensor) -> Tensor:
    """A loss of logits (B, K) whose gradient there is ``slopes / B``, whatever the logits are."""
    return (slopes * logits).sum(dim=-1).mean()
