"""Attacks in several stages, each going on where the one before ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from gilib.federated import Update
from gilib.iteration.attack import Attack, Callback, IterationAttack
from gilib.iteration.reconstruction import Reconstruction


@dataclass(frozen=True)
class StagedAttack(Attack):
    """Stages that run one after another: each starts from the reconstructions of the one before.

    Taught in: iteration/generative.
    """

    stages: tuple[IterationAttack, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a staged attack needs at least one stage.")

    def reconstruct_many(
        self,
        model: nn.Module,
        updates: Sequence[Update],
        *,
        seed: int = 0,
        snapshots: int = 0,
        callback: Callback | None = None,
        compiled: bool = False,
        after: Sequence[Reconstruction] | None = None,
    ) -> list[Reconstruction]:
        """Attack many victims at once, as ``Attack.reconstruct_many`` says, and return what the last stage found.

        Ctrl-C ends the stage under way and all later ones.
        """
        found: list[Reconstruction] = []
        for stage in self.stages:
            found = stage.reconstruct_many(
                model, updates, seed=seed, snapshots=snapshots, callback=callback, compiled=compiled, after=after
            )
            after = found
            if any(one.interrupted for one in found):
                break
        return found
