"""A small matrix that takes seconds, for the tests of what runs it. Workers import it, so it is a module of its own."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.federated import Update
from gilib.matrix import DEFENSES, Adaptation, AttackEntry, Cell, Solve, cells
from gilib.recursion import phong


@dataclass(frozen=True)
class Guess(AttackEntry):
    """An attack that always answers with grey."""

    name: str = "Guess"
    network: str = "MLP"
    level: float = 0.5

    def find(self, model: nn.Module, updates: Sequence[Update], how: Adaptation) -> Tensor:
        return torch.full((sum(one.batch_size for one in updates), 1, 8, 8), self.level, dtype=torch.float64)


@dataclass(frozen=True)
class Deadly(Guess):
    """An attack that kills the process it runs in, as running out of memory does."""

    name: str = "Deadly"

    def find(self, model: nn.Module, updates: Sequence[Update], how: Adaptation) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


NONE = DEFENSES[0]
DIVISION = Solve("Division", "MLP", phong)


def attack_cells(*attacks: AttackEntry) -> list[Cell]:
    """The cells of some attacks on no defense, without the costs, which take longer."""
    return [cell for cell in cells(attacks, [NONE]) if hasattr(cell, "attack")]
