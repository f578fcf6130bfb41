"""A small matrix that takes seconds, for the tests of what runs it. Workers import it, so it is a module of its own."""

import os
import signal
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gilib.data import Batch
from gilib.matrix import DEFENSES, Adaptation, AttackEntry, Cell, Scene, Solve, View, cells
from gilib.matrix.columns import dense
from gilib.matrix.scenes import digits
from gilib.recursion import phong


@dataclass(frozen=True)
class Guess(AttackEntry):
    """An attack that always answers with grey."""

    name: str = "Guess"
    level: float = 0.5

    def find(self, view: View, how: Adaptation) -> Tensor:
        return torch.full((sum(one.batch_size for one in view.sent[0]), 1, 8, 8), self.level, dtype=torch.float64)


@dataclass(frozen=True)
class Deadly(Guess):
    """An attack that kills the process it runs in, as running out of memory does."""

    name: str = "Deadly"

    def find(self, view: View, how: Adaptation) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


def few(batch: Batch, count: int) -> Batch:
    """The first images of a batch."""
    return Batch(batch.images[:count], batch.labels[:count])


NONE = DEFENSES[0]
DIVISION = Solve("Division", phong)
PRIVATE, PUBLIC = (few(batch, 100) for batch in digits())
SCENE = Scene("small", dense, PRIVATE, PUBLIC, people=8, cohort=8, stages=(0, 2))
PATIENT = replace(SCENE, name="small, patient", people=4)


def attack_cells(*attacks: AttackEntry) -> list[Cell]:
    """The cells of some attacks on no defense, without the costs, which take longer."""
    return cells([SCENE], [NONE], attacks, costs=False)
