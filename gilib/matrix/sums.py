"""Defenses of the matrix in which nobody looks at one person's update: sums, with noise or without, and ciphers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gilib.data import Batch
from gilib.defenses.aggregation_messages import Agreement, flat, mean_update
from gilib.defenses.distributed_noise import DistributedNoise
from gilib.defenses.encryption import FixedPoint, ckks_keys
from gilib.defenses.secure_aggregation import PROTOCOLS, Round, aggregate
from gilib.federated import Client, Gradients, Update, seeded_generator
from gilib.matrix.attacks import AttackEntry
from gilib.matrix.defenses import DefenseEntry
from gilib.matrix.rounds import View
from gilib.matrix.scenes import Scene


@dataclass(frozen=True)
class Summed(DefenseEntry):
    """Secure aggregation by masking: the server learns the mean update of all people and nothing else.

    The sum under attack is that of a real round, in fixed point of ``precision`` bits. The plain attacker takes the
    mean for the update of one person. The adaptive one knows that it is a batch of all, and, since labels are shared
    everywhere in this matrix, which labels occur in it.
    """

    precision: int = 26

    def sent(self, scene: Scene, clients: Sequence[Client], round: int) -> tuple[Update, ...]:
        """The one mean update."""
        every = super().sent(scene, clients, round)
        labels = torch.cat([one.labels for one in every if one.labels is not None])
        return (replace(self.combined(every, 1_000 * scene.seed + round), labels=labels),)

    def combined(self, every: Sequence[Update], seed: int) -> Update:
        """The mean, as the server has it after the round."""
        return mean_update(self._played(every).sums, every)

    def plain(self, attack: AttackEntry, view: View) -> Tensor:
        """One image, taken for each person's."""
        size = view.scene.batch
        one = [
            tuple(replace(update, batch_size=size, labels=_first(update, size)) for update in updates)
            for updates in view.sent
        ]
        images = super().plain(attack, replace(view, sent=tuple(one)))
        return images.repeat(view.scene.people, 1, 1, 1)

    def differs(self, attack: AttackEntry, view: View) -> bool:
        """It does: a batch of all people is another problem than one person."""
        return True

    def sent_bytes(self, scene: Scene) -> int:
        """Bytes of all messages that one person sends in the round."""
        every = DefenseEntry.sent(self, scene, self.clients(scene, self.network(scene)), 0)
        return sum(self._played(every).sent[0].values())

    def _played(self, every: Sequence[Update]) -> Round:
        """A round among the people, of whom three quarters are needed."""
        vectors = [flat(one) for one in every]
        codec = FixedPoint(self.precision, bound=8.0, clients=len(every))
        needed = -(-3 * len(every) // 4)
        agreed = Agreement(len(vectors[0]), len(every), private=needed - 1, needed=needed, codec=codec)
        return aggregate(PROTOCOLS["masking"], agreed, vectors)


@dataclass(frozen=True)
class Noisy(Summed):
    """A mean of clipped updates with noise: added once by an aggregator whom everybody trusts, or by all together.

    ``noise`` is the standard deviation of the sum's noise as a multiple of the clipping norm of one sample, ``clip``.
    With ``distributed`` there is no aggregator: people add shares of Skellam noise to whole numbers (``scale`` a unit),
    and secure aggregation adds up. The training has the same noise in every round.
    """

    clip: float = 1.0
    noise: float = 0.0
    distributed: bool = False
    scale: float = 1000.0

    def combined(self, every: Sequence[Update], seed: int) -> Update:
        """The mean with the noise of this round."""
        generator, batch = seeded_generator(2, seed), every[0].batch_size
        vectors = [batch * flat(one).double().cpu() for one in every]
        if self.distributed:
            total = self._agreed(len(vectors[0]), len(every), batch)
            sums = total.decode(sum(total.encode(one, generator=generator) for one in vectors))  # type: ignore[arg-type]
        else:
            sums = torch.stack(vectors).sum(dim=0)
            sums += self.noise * self.clip * torch.randn(len(sums), generator=generator, dtype=torch.float64)
        like = next(iter(every[0].gradients.values()))
        return mean_update((sums / batch).to(like), every)

    def mean(self, scene: Scene, model: nn.Module, others: Sequence[Batch], round: int) -> Gradients:
        """The mean of the others, with the noise of this round.

        Samples are clipped one by one, so that without whole numbers all images may be in one update.
        """
        if not self.distributed:
            together = Batch(torch.cat([one.images for one in others]), torch.cat([one.labels for one in others]))
            update = self.client(scene, model).update(together)
            return self.combined([update], 1_000_000 + 1_000 * scene.seed + round).gradients
        updates = [
            self.client(scene, model, person=100 + place).update(batch, round=round)
            for place, batch in enumerate(others)
        ]
        return self.combined(updates, 1_000_000 + 1_000 * scene.seed + round).gradients

    def sent_bytes(self, scene: Scene) -> int:
        """Bytes that one person sends: an update, or its whole numbers."""
        update = self.client(scene, self.network(scene)).update(scene.held[0])
        if not self.distributed:
            return 4 * len(flat(update))
        agreed = self._agreed(len(flat(update)), scene.people, scene.batch)
        largest = 2 * (scene.people * agreed.l2 + 10 * agreed.variance**0.5)  # with room for the noise
        return agreed.padded * int(torch.tensor(largest).log2().ceil()) // 8

    def _agreed(self, numbers: int, people: int, batch: int) -> DistributedNoise:
        return DistributedNoise(numbers, people, batch * self.clip, self.noise / batch, self.scale)


@dataclass(frozen=True)
class Encrypted(DefenseEntry):
    """Homomorphic encryption (CKKS): the server holds ciphertexts, so that it can only guess.

    Every attacker's image is the mean of the images that the attacker has. What the holder of the key sees is the sum,
    as under secure aggregation.
    """

    def plain(self, attack: AttackEntry, view: View) -> Tensor:
        """The guess."""
        return view.scene.average.expand(view.scene.together.images.shape)

    adaptive = plain

    def differs(self, attack: AttackEntry, view: View) -> bool:
        """It does not."""
        return False

    def sent_bytes(self, scene: Scene) -> int:
        """Bytes of one person's ciphertexts."""
        public, _ = ckks_keys()
        return public.encrypt(self.client(scene, self.network(scene)).update(scene.held[0])).size


def _first(update: Update, count: int) -> Tensor:
    assert update.labels is not None
    return update.labels[:count]
