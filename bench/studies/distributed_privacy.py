"""Noise and sums together: what accuracy costs, and what the strongest attacker still sees, on handwritten digits."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from bench.studies.cells import scores
from gilib import data, models
from gilib.data import Batch
from gilib.defenses.aggregation_messages import flat
from gilib.defenses.distributed_noise import DistributedNoise, clipped
from gilib.defenses.encryption import unflat
from gilib.federated import Client, Update, seeded_generator, train
from gilib.iteration import inverting_gradients, optimizers
from gilib.studies import key

TOTAL, ROUNDS, CLIP, SCALE = 1500, 100, 1.0, 1000.0
NOISE = (0.0, 1.0, 4.0, 16.0, 64.0, 160.0)
"""Standard deviation of an entry of the sum of all clients, as a multiple of the clipping norm."""
RATES = (0.1, 0.3, 1.0, 3.0)
SEEN = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""The same for what an attacker sees who knows all clients but one."""
WEIGHTS = (0.0, 0.01, 0.1, 1.0)
MEANING = 1


@lru_cache
def people() -> tuple[Batch, Batch]:
    """The digits of the clients, shuffled, and those that accuracy is measured on."""
    digits = data.load("digits")
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    return digits.batch(order[297:]), digits.batch(order[:297])


def network() -> nn.Module:
    """The LeNet with tanh of 3,754 parameters, untrained, float64."""
    return models.lenet(channels=1, size=8, width=8, activation="tanh", bound=0.15).double()


@dataclass(frozen=True)
class AccuracyCell:
    """One training on the same digits in the hands of ``clients``, with noise on the sum.

    With ``whole`` the noise is the clients', in whole numbers.
    """

    noise: float
    rate: float
    seed: int
    clients: int = 100
    whole: bool = False

    @property
    def title(self) -> str:
        """What a progress line says."""
        return f"accuracy of {self.clients} clients, noise {self.noise:g}, rate {self.rate:g}, seed {self.seed}"

    @property
    def key(self) -> str:
        """Changes with every setting, and with no other."""
        return key([MEANING, self, TOTAL, ROUNDS, CLIP, SCALE])

    def measure(self) -> dict[str, Any]:
        """The share of unseen digits that are right after the last round."""
        private, unseen = people()
        x = private.images[:TOTAL].double().reshape(self.clients, -1, *private.images.shape[1:])
        y = private.labels[:TOTAL].reshape(self.clients, -1)
        model, generator = network(), seeded_generator(self.seed)
        theta = {name: value.detach() for name, value in model.named_parameters()}
        shapes = {name: tuple(value.shape) for name, value in theta.items()}
        numbers = sum(value.numel() for value in theta.values())
        sums = DistributedNoise(numbers, self.clients, CLIP, self.noise, SCALE) if self.whole else None
        for _ in range(ROUNDS):
            vectors = vmap(_gradient, in_dims=(None, None, 0, 0))(model, theta, x, y)
            if sums:
                total = sums.decode(sum(sums.encode(one, generator=generator) for one in vectors))  # type: ignore[arg-type]
            else:
                noise = torch.randn(numbers, generator=generator, dtype=torch.float64)
                total = clipped(vectors, CLIP).sum(dim=0) + self.noise * CLIP * noise
            step = unflat(self.rate / self.clients * total, shapes)
            theta = {name: value - step[name] for name, value in theta.items()}
        with torch.no_grad():
            right = functional_call(model, theta, (unseen.images.double(),)).argmax(dim=1) == unseen.labels
        return {"accuracy": round(right.double().mean().item(), 4)}


@dataclass(frozen=True)
class SeenCell:
    """What an attacker finds who has subtracted all other clients: 16 clients with one clipped update each, and noise.

    ``samples`` is how many digits a client holds, ``tv`` the weight of the attacker's prior. After ``stage`` steps the
    network has been trained on the clients' digits too.
    """

    noise: float
    tv: float
    samples: int = 1
    stage: int = 0

    @property
    def title(self) -> str:
        """What a progress line says."""
        return f"seen behind noise {self.noise:g}, {self.samples} samples, TV {self.tv:g}, stage {self.stage}"

    @property
    def key(self) -> str:
        """Changes with every setting, and with no other."""
        return key([MEANING, self, CLIP])

    def measure(self) -> dict[str, Any]:
        """PSNR, SSIM, the nearest of all 1,797 digits and the client's own, for every image."""
        private, _ = people()
        model = train(network(), private, stages=[self.stage])[self.stage]
        client = Client(model, share_labels=True)
        held = [range(at, at + self.samples) for at in range(0, 16 * self.samples, self.samples)]
        batches = [Batch(private.images[list(one)], private.labels[list(one)]) for one in held]
        updates = [_noisy(client.update(batch), self.noise, seed) for seed, batch in enumerate(batches)]
        attack = replace(inverting_gradients(tv=self.tv, iterations=200), optimizer=optimizers.adam(0.1))
        found = attack.reconstruct_many(model, updates)
        return scores(found, batches, data.load("digits").images)


def _gradient(model: nn.Module, theta: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    def loss(parameters: dict[str, Tensor]) -> Tensor:
        logits: Tensor = functional_call(model, parameters, (x,))
        return nn.functional.cross_entropy(logits, y)

    return torch.cat([value.flatten() for value in grad(loss)(theta).values()])


def _noisy(update: Update, noise: float, seed: int) -> Update:
    vector = clipped(flat(update), CLIP)
    vector = vector + noise * CLIP * torch.randn(len(vector), generator=seeded_generator(1, seed), dtype=torch.float64)
    shapes = {name: tuple(value.shape) for name, value in update.gradients.items()}
    return replace(update, gradients=unflat(vector, shapes))


CELLS = [
    *[AccuracyCell(noise, rate, seed) for noise in NOISE for rate in RATES for seed in range(3)],
    *[
        AccuracyCell(noise, rate, seed, clients)
        for clients in (300, 1500)
        for noise in NOISE[2:5]
        for rate in RATES[1:]
        for seed in range(3)
    ],
    *[AccuracyCell(noise, rate, 0, whole=True) for noise, rate in ((1.0, 1.0), (4.0, 0.3), (16.0, 0.1))],
    *[SeenCell(noise, tv, samples) for samples in (1, 4) for noise in SEEN for tv in WEIGHTS],
    *[SeenCell(noise, tv, stage=45) for noise in SEEN for tv in WEIGHTS],
]
