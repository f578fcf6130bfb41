"""The attacks of the matrix, each with the network that it is made for and the budget that it gets."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gilib import iteration, recursion
from gilib.federated import Update
from gilib.generators import decoder
from gilib.iteration import StagedAttack, optimizers
from gilib.iteration.attack import Attack
from gilib.iteration.hidden import HiddenDraws
from gilib.iteration.labels import Labels
from gilib.iteration.matching import Matching
from gilib.iteration.priors import Prior
from gilib.iteration.representation import Pixels
from gilib.matrix.scenes import LATENT, generator
from gilib.recursion import Reconstruction


@dataclass(frozen=True)
class Adaptation:
    """What an attacker who knows a defense changes about a search; what is None stays.

    ``matching`` takes the attack's own matching and returns the one to use. ``priors`` are added. With ``staged``, a
    search over pixels runs unchanged first and goes on from there.
    """

    matching: Callable[[Matching], Matching] | None = None
    priors: tuple[Prior, ...] = ()
    labels: Labels | None = None
    draws: HiddenDraws | None = None
    staged: bool = False


class AttackEntry(ABC):
    """A row of the matrix. A subclass is a frozen dataclass, so that its settings make the key of its results."""

    name: str
    network: str

    @abstractmethod
    def find(self, model: nn.Module, updates: Sequence[Update], how: Adaptation) -> Tensor:
        """The images (V * B, C, H, W) in [0, 1] behind the updates of V victims.

        Raises ValueError where the attack does not apply to such a model or update.
        """


@dataclass(frozen=True)
class Search(AttackEntry):
    """An iteration-based attack. All victims run as one stack."""

    name: str
    network: str
    attack: Attack

    def find(self, model: nn.Module, updates: Sequence[Update], how: Adaptation) -> Tensor:
        """Run the search, adapted to the defense."""
        return torch.cat([one.images for one in adapted(self.attack, how).reconstruct_many(model, updates)])


@dataclass(frozen=True)
class Drawn(AttackEntry):
    """An iteration-based attack whose images come from a generator: ``recipe(generator, LATENT, **options)``."""

    name: str
    network: str
    recipe: Callable[..., Attack]
    options: tuple[tuple[str, int], ...]
    trained: bool = True

    def find(self, model: nn.Module, updates: Sequence[Update], how: Adaptation) -> Tensor:
        """Build the attack around the generator, and run it."""
        network = generator() if self.trained else decoder(LATENT)
        attack = self.recipe(network, LATENT, **dict(self.options))
        return Search(self.name, self.network, attack).find(model, updates, how)


@dataclass(frozen=True)
class Solve(AttackEntry):
    """A recursion-based attack. It solves for what was sent, and has no ingredient that could be adapted."""

    name: str
    network: str
    solver: Callable[[nn.Module, Update], Reconstruction]

    def find(self, model: nn.Module, updates: Sequence[Update], how: Adaptation) -> Tensor:
        """Solve one update after another; where a batch comes back as one mixture, each member gets the mixture."""
        found = []
        for update in updates:
            images = self.solver(model, update).images.detach().nan_to_num().clamp(0, 1)
            found.append(images.expand(update.batch_size, *images.shape[1:]) if len(images) == 1 else images)
        return torch.cat(found)


def adapted(attack: Attack, how: Adaptation) -> Attack:
    """The attack with the ingredients that ``how`` changes."""
    if isinstance(attack, StagedAttack):
        return StagedAttack(tuple(adapted(stage, how) for stage in attack.stages))  # type: ignore[misc]
    assert isinstance(attack, iteration.IterationAttack)
    changed = replace(
        attack,
        matching=attack.matching if how.matching is None else how.matching(attack.matching),
        priors=(*attack.priors, *how.priors),
        labels=attack.labels if how.labels is None else how.labels,
        draws=attack.draws if how.draws is None else how.draws,
    )
    staged = how.staged and isinstance(attack.representation, Pixels)
    return StagedAttack((attack, changed)) if staged else changed


_PLAIN_ADAM = replace(iteration.inverting_gradients(iterations=150), optimizer=optimizers.adam(0.1), priors=())

ATTACKS: tuple[AttackEntry, ...] = (
    Search("DLG", "LeNet", iteration.dlg(iterations=200)),
    Search("iDLG", "LeNet", iteration.idlg(iterations=200)),
    Search("CPL", "LeNet", iteration.cpl(iterations=200)),
    Search("Inverting Gradients", "LeNet", _PLAIN_ADAM),
    Drawn("GIAS", "LeNet", iteration.gias, (("iterations", 200), ("weight_iterations", 150), ("restarts", 2))),
    Drawn("GGL", "LeNet", iteration.ggl, (("population", 12), ("iterations", 50))),
    Drawn("Deep image prior", "LeNet", iteration.deep_image_prior, (("iterations", 200),), trained=False),
    Search("Inverting Gradients, dense", "MLP", _PLAIN_ADAM),
    Solve("Division", "MLP", recursion.phong),
    Solve("SPEAR", "MLP", recursion.spear),
    Solve("R-GAP", "ConvNet", recursion.rgap),
)
"""The attacks of this book that work on one image, or take a sum of images apart."""
