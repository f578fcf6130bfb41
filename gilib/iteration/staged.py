"""Attacks in several stages, each going on where the one before ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from gilib.federated import Update
from gilib.iteration.attack import Callback, IterationAttack
from gilib.iteration.reconstruction import Reconstruction


@dataclass(frozen=True)
class StagedAttack:
    """Stages that run one after another: each starts from the reconstructions of the one before.

    Taught in: iteration/generative.
    """

    stages: tuple[IterationAttack, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a staged attack needs at least one stage.")

    def reconstruct(self, model: nn.Module, update: Update, *, seed: int = 0, snapshots: int = 0) -> Reconstruction:
        """Attack one victim. See ``reconstruct_many``, which this calls with a stack of one."""
        [found] = self.reconstruct_many(model, [update], seed=seed, snapshots=snapshots)
        return found

    def reconstruct_many(
        self,
        model: nn.Module,
        updates: Sequence[Update],
        *,
        seed: int = 0,
        snapshots: int = 0,
        callback: Callback | None = None,
    ) -> list[Reconstruction]:
        """Attack many victims at once; the reconstructions are those of the last stage.

        Ctrl-C ends the stage under way and all later ones. For the other arguments and for what is raised see
        ``IterationAttack.reconstruct_many``.
        """
        found: list[Reconstruction] | None = None
        for stage in self.stages:
            found = stage.reconstruct_many(
                model, updates, seed=seed, snapshots=snapshots, callback=callback, after=found
            )
            if any(one.interrupted for one in found):
                break
        assert found is not None
        return found
