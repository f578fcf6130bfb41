"""How much of a table comes back: TabLeak, SPEAR and guessing on the same people, by batch size, noise and local steps.

Attackers know the columns and 200 other people. Their settings were tried on 89 people whom nobody here attacks.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn

from gilib import models
from gilib.data import Table, TableBatch, load_table
from gilib.defenses.privacy import gaussian_noise
from gilib.federated import PLAIN, Client, LocalTraining, Update, seeded_generator, train
from gilib.frontiers.tables import TableAttack, cells_right, guessed, order_of, tableak
from gilib.iteration import matching
from gilib.recursion import spear
from gilib.studies import Result, key

PUBLIC, TRIED = 200, 289
"""The first 200 people of the shuffled table are public, those up to the 289th are for choosing settings."""

DRAWS = {4: 4_000, 8: 20_000, 16: 40_000, 32: 2_000}
"""What SPEAR may draw at each batch size."""

COLUMNS = load_table().columns
ATTACK = tableak(COLUMNS, starts=6, iterations=300, rate=0.2)


@dataclass(frozen=True)
class TableCell:
    """``victims`` clients of ``batch`` people each, by a network of one seed after ``stage`` steps of training."""

    name: str
    batch: int
    stage: int = 0
    seed: int = 0
    victims: int = 6
    noise: float = 0.0
    local: LocalTraining = PLAIN
    attack: TableAttack = field(default=ATTACK)

    @property
    def title(self) -> str:
        """What a progress line says."""
        return f"{self.name}, batches of {self.batch}, stage {self.stage}, noise {self.noise:g}, seed {self.seed}"

    @property
    def key(self) -> str:
        """Changes with every setting."""
        return key(self)

    def measure(self) -> Result:
        """The share of cells right for each person, by TabLeak, SPEAR and guessing, and by column and certainty."""
        model, people = network(self.stage, self.seed), batches(self.batch, self.victims, self.seed)
        updates = [self.update(model, batch, number) for number, batch in enumerate(people)]
        found = self.attack.reconstruct_many(model.float(), updates, seed=self.seed)
        right = [cells_right(COLUMNS, one.rows, batch.inputs) for one, batch in zip(found, people, strict=True)]
        best = [cells_right(COLUMNS, one.best, batch.inputs) for one, batch in zip(found, people, strict=True)]
        doubts = [
            one.doubt[order_of(COLUMNS, one.rows, batch.inputs)] for one, batch in zip(found, people, strict=True)
        ]
        return {
            "right": _shares(right),
            "best": _shares(best),
            "column": torch.cat(right).double().mean(dim=0).tolist(),
            "certain": _quarters(torch.cat(right), torch.cat(doubts)),
            **self._beside(people, updates),
        }

    def _beside(self, people: list[TableBatch], updates: list[Update]) -> Result:
        """What SPEAR and guessing have right of the same people."""
        solved = [spear(network(self.stage, self.seed), one, draws=DRAWS[self.batch]) for one in updates]
        rows = [one.images.flatten(1).nan_to_num() for one in solved]
        guesses = {
            name: [guessed(COLUMNS, others(), batch.labels, by_label=by_label) for batch in people]
            for name, by_label in (("guessed", False), ("guessed by label", True))
        }
        measured = {"solved": rows, **guesses}
        shares = {
            name: [cells_right(COLUMNS, one, batch.inputs) for one, batch in zip(found, people, strict=True)]
            for name, found in measured.items()
        }
        columns = torch.cat(shares["guessed by label"]).double().mean(dim=0)
        return {
            **{name: _shares(found) for name, found in shares.items()},
            "exact": [bool(one.exact) for one in solved],
            "guessed column": columns.tolist(),
        }

    def update(self, model: nn.Module, batch: TableBatch, number: int) -> Update:
        """What one client shares. Labels are known, as in the paper."""
        defenses = (gaussian_noise(self.noise),) if self.noise else ()
        client = Client(model, local=self.local, defenses=defenses, share_labels=True, seed=100 * self.seed + number)
        return client.update(batch)


@lru_cache
def table() -> Table:
    """The people in the order of the study."""
    whole = load_table()
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    return Table(whole.rows[order], whole.labels[order], whole.columns, whole.classes)


def others() -> Table:
    """The people whom the attacker knows."""
    whole = table()
    return Table(whole.rows[:PUBLIC], whole.labels[:PUBLIC], whole.columns, whole.classes)


def batches(size: int, count: int, seed: int) -> list[TableBatch]:
    """``count`` clients with ``size`` people each; nobody is with two of them."""
    order = TRIED + torch.randperm(len(table()) - TRIED, generator=seeded_generator(seed))
    return [table().batch(order[size * one : size * one + size]) for one in range(count)]


def network(stage: int, seed: int) -> nn.Module:
    """80 inputs, two hidden layers of 100, two logits, in float64, after ``stage`` steps on the public people."""
    model = models.mlp(2, channels=COLUMNS.width, size=1, hidden=(100, 100), seed=seed).double()
    return train(model, table().batch(range(PUBLIC)), stages=[stage], learning_rate=0.05, seed=seed)[stage]


def _shares(right: list[Tensor]) -> list[float]:
    """For each person the share of cells that are right."""
    return torch.cat(right).double().mean(dim=1).tolist()


def _quarters(right: Tensor, doubts: Tensor) -> list[float]:
    """The share of categories right in each quarter of the doubts, the most certain first."""
    categories = slice(COLUMNS.numbers, None)
    order = doubts[:, categories].flatten().argsort(stable=True)
    sorted_right = right[:, categories].flatten()[order].double()
    return [float(part.mean()) for part in sorted_right.tensor_split(4)]


SEEDS = (0, 1, 2)
NOISE = (1e-3, 1e-2, 1e-1)
LIKELY = tableak(COLUMNS, starts=6, iterations=300, rate=0.2, distance=matching.squared_l2())
AS_NUMBERS = tableak(COLUMNS, starts=6, iterations=300, rate=0.2, soft=False)

CELLS = [
    *(TableCell("plain", batch, stage, seed) for batch in (4, 8, 16) for stage in (0, 100) for seed in SEEDS),
    *(
        TableCell(name, 8, seed=seed, victims=2, noise=noise, attack=attack)
        for noise in NOISE
        for name, attack in (("noise, cosine", ATTACK), ("noise, squares", LIKELY))
        for seed in SEEDS
    ),
    *(TableCell("as numbers", 8, seed=seed, victims=2, attack=AS_NUMBERS) for seed in SEEDS),
    *(TableCell("local", 8, seed=seed, victims=2, local=LocalTraining(3, learning_rate=0.3)) for seed in SEEDS),
    *(TableCell("plain", 32, stage, seed) for stage in (0, 100) for seed in SEEDS),
]
