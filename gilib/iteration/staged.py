"""Attacks in several stages, each going on where the one before ended."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from gilib.federated import Update
from gilib.iteration.attack import Attack, IterationAttack, Run
from gilib.iteration.reconstruction import Reconstruction


@dataclass(frozen=True)
class StagedAttack(Attack):
    """Stages that run one after another: each starts from the reconstructions of the one before.

    What the last stage found is returned. Ctrl-C ends the stage under way and all later ones.

    Taught in: iteration/generative.
    """

    stages: tuple[IterationAttack, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a staged attack needs at least one stage.")

    def _attack(self, model: nn.Module, updates: Sequence[Update], run: Run) -> list[Reconstruction]:
        found: list[Reconstruction] = []
        for stage in self.stages:
            found = stage._attack(model, updates, run)
            run = replace(run, after=found)
            if any(one.interrupted for one in found):
                break
        return found
