"""The attacks of the matrix: what they find behind the updates of one round or of several."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gilib import iteration
from gilib.federated import Update, find_head
from gilib.iteration import StagedAttack, matching
from gilib.iteration.attack import Attack
from gilib.iteration.hidden import HiddenDraws
from gilib.iteration.labels import Labels
from gilib.iteration.matching import Matching
from gilib.iteration.priors import Prior
from gilib.iteration.representation import Pixels
from gilib.matrix.rounds import Rounds, View, joined
from gilib.matrix.scenes import LATENT, generator
from gilib.recursion import Reconstruction

Solver = Callable[[nn.Module, Update], Reconstruction]


@dataclass(frozen=True)
class Adaptation:
    """What an attacker who knows a defense changes about a search; what is None stays.

    ``matching`` takes the attack's own matching and returns the one to use, ``over_rounds`` does where there are
    several. ``ignored`` are parameters that are not compared, by the end of their names. ``priors`` are added. With
    ``staged``, a search over pixels runs unchanged first and goes on from there. ``in_box`` solvers, if they have
    another way, take what was sent as inexact.
    """

    matching: Callable[[Matching], Matching] | None = None
    over_rounds: Callable[[Matching], Matching] | None = None
    ignored: tuple[str, ...] = ()
    priors: tuple[Prior, ...] = ()
    labels: Labels | None = None
    draws: HiddenDraws | None = None
    staged: bool = False
    in_box: bool = False


class AttackEntry(ABC):
    """A column of the matrix. A subclass is a frozen dataclass, so that its settings make the key of its results."""

    name: str

    @abstractmethod
    def find(self, view: View, how: Adaptation) -> Tensor:
        """The images (senders * B, C, H, W) in [0, 1], sender after sender.

        Raises ValueError where the attack does not apply to such a model or update.
        """

    def answers(self, how: Adaptation) -> bool:
        """Whether it changes anything for an attacker who knows the defense."""
        return how != Adaptation()


@dataclass(frozen=True)
class Search(AttackEntry):
    """An iteration-based attack. All senders run as one stack; several rounds are one update of a larger network.

    ``patient`` is how many iterations it has where there are several rounds, each of which takes longer.
    """

    name: str
    attack: Attack
    patient: int = 100

    def find(self, view: View, how: Adaptation) -> Tensor:
        """Run the search, adapted to the defense."""
        attack, updates, model = self.attack, [sender[0] for sender in view.senders], view.models[0]
        rounds = len(view.models)
        if rounds > 1:
            model = Rounds(view.models)
            updates = [joined(view.models, sender) for sender in view.senders]
            attack = _shorter(attack, self.patient)
        names = [name for name in updates[0].gradients if how.ignored and name.endswith(how.ignored)]
        return torch.cat(
            [one.images for one in adapted(attack, how, rounds, names).reconstruct_many(model, updates)]
        ).clamp(0, 1)


@dataclass(frozen=True)
class Linear(Search):
    """A search that replaces the loss by its slope at the logits, which a single image leaves in the last bias."""

    def find(self, view: View, how: Adaptation) -> Tensor:
        """Read the slope off every update, and search with it."""
        return super().find(linear(view), how)


@dataclass(frozen=True)
class Drawn(AttackEntry):
    """An iteration-based attack whose images come from a generator: ``recipe(generator, LATENT, **options)``."""

    name: str
    recipe: Callable[..., Attack]
    options: tuple[tuple[str, int], ...]

    def find(self, view: View, how: Adaptation) -> Tensor:
        """Build the attack around the generator, and run it on the first round."""
        attack = self.recipe(generator(view.scene), LATENT, **dict(self.options))
        return Search(self.name, attack).find(replace(view, models=view.models[:1], sent=view.sent[:1]), how)


@dataclass(frozen=True)
class Solve(AttackEntry):
    """A recursion-based attack. ``boxed`` is how it solves what is inexact, if it can."""

    name: str
    solver: Solver
    boxed: Solver | None = None

    def find(self, view: View, how: Adaptation) -> Tensor:
        """Solve one update after another, and take the median over the rounds, pixel by pixel.

        Where a batch comes back as one mixture, each member gets the mixture; where fewer images come back than there
        are, the mean of the public images stands for the others.
        """
        solver = self.boxed if how.in_box and self.boxed else self.solver
        found = []
        for updates in view.senders:
            rounds = [solver(model, one).images.detach() for model, one in zip(view.models, updates, strict=True)]
            several = [images.nan_to_num().clamp(0, 1) for images in rounds]
            if len({images.shape for images in several}) > 1:
                raise ValueError("the rounds give different numbers of images: which of them is which, it cannot say.")
            images, size = torch.stack(several).quantile(0.5, dim=0), updates[0].batch_size
            guess = images if len(images) == 1 else view.scene.average[None].to(images)
            found.append(torch.cat([images[:size], guess.repeat(max(size - len(images), 0), 1, 1, 1)]))
        return torch.cat(found)

    def answers(self, how: Adaptation) -> bool:
        """Whether it solves in another way."""
        return how.in_box and self.boxed is not None


def adapted(attack: Attack, how: Adaptation, rounds: int = 1, ignored: Sequence[str] = ()) -> Attack:
    """The attack with the ingredients that ``how`` changes, ``ignored`` being names of parameters."""
    if isinstance(attack, StagedAttack):
        return StagedAttack(tuple(adapted(stage, how, rounds, ignored) for stage in attack.stages))  # type: ignore[misc]
    assert isinstance(attack, iteration.IterationAttack)
    change = how.over_rounds if rounds > 1 and how.over_rounds else how.matching
    distance = attack.matching if change is None else change(attack.matching)
    changed = replace(
        attack,
        matching=matching.weighted(distance, dict.fromkeys(ignored, 0.0)) if ignored else distance,
        priors=(*attack.priors, *how.priors),
        labels=attack.labels if how.labels is None else how.labels,
        draws=attack.draws if how.draws is None else how.draws,
    )
    staged = how.staged and isinstance(attack.representation, Pixels)
    return StagedAttack((attack, changed)) if staged else changed


def linear(view: View) -> View:
    """The same updates as those of a loss that is linear in the logits. Raises ValueError for more than one image."""
    sent = [tuple(linearised(model, updates)) for model, updates in zip(view.models, view.sent, strict=True)]
    return replace(view, sent=tuple(sent))


def linearised(model: nn.Module, updates: Sequence[Update]) -> list[Update]:
    """Updates of one image each as those of a loss that is linear in the logits, with its slope for the labels.

    Raises ValueError for more than one image, and after more than one step.
    """
    if updates[0].batch_size != 1 or not updates[0].local.single:
        raise ValueError("the last bias gradient is the slope at the logits of one image, after one step only.")
    head = find_head(model, updates[0].image_shape)
    slopes = [head.bias_gradient(one.gradients)[None] for one in updates]
    return [replace(one, labels=y, loss=linear_loss) for one, y in zip(updates, slopes, strict=True)]


def linear_loss(logits: Tensor, slopes: Tensor) -> Tensor:
    """A loss of logits (B, K) whose gradient there is ``slopes / B``, whatever the logits are."""
    return (slopes * logits).sum(dim=-1).mean()


def _shorter(attack: Attack, iterations: int) -> Attack:
    if isinstance(attack, StagedAttack):
        return StagedAttack(tuple(replace(one, iterations=iterations // 2) for one in attack.stages))
    assert isinstance(attack, iteration.IterationAttack)
    return replace(attack, iterations=min(attack.iterations, iterations))
