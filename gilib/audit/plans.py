"""Which searches an audit tries, from the letter of the threat model and what the update allows."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from gilib.audit.settings import Threat
from gilib.audit.surrogate import Generator
from gilib.audit.target import Target
from gilib.federated import PLAIN, Update, copied
from gilib.iteration import dlg, gias, inverting_gradients
from gilib.iteration.attack import Attack
from gilib.iteration.labels import known
from gilib.iteration.optimizers import signed_adam
from gilib.iteration.priors import batch_statistics, total_variation
from gilib.matrix.attacks import linearised

SMOOTH = ((1e-2, 0.1), (1e-1, 0.1), (0.0, 0.1), (1e-2, 0.02), (1e-3, 0.1))
"""Weights of total variation and first steps of Adam that the audit chooses from, the likeliest first."""
ROUGH = ((0.0, 0.1), (0.0, 0.02))
"""What is left of them for a server without priors."""


@dataclass(frozen=True)
class Plan:
    """A search with its number of iterations left open. ``linear`` replaces the loss by its slope at the logits."""

    name: str
    recipe: Callable[[int], Attack]
    linear: bool = False
    double: bool = False
    drawn: bool = False

    def prepared(self, model: nn.Module, updates: list[Update]) -> tuple[nn.Module, list[Update]]:
        """The model and the updates as this search takes them."""
        if self.double:
            model = _double(model)
            updates = [replace(one, gradients={k: v.double() for k, v in one.gradients.items()}) for one in updates]
        return model, linearised(model, updates) if self.linear else updates


def plans(target: Target, threat: Threat, generator: Generator | None = None) -> list[Plan]:
    """The searches for these clients, in the order in which they are tried where time is short."""
    first, *others = ROUGH if threat == "A" else SMOOTH
    sent = target.updates[0]
    found = [Plan("cosine, shared statistics", _statistics)] if threat == "E" and sent.buffers is not None else []
    found.append(_smooth(*first))
    if generator is not None:
        found.append(Plan("generator, codes then weights", _drawing(generator), drawn=True))
    if target.batch == 1 and sent.local.single:
        found.append(replace(_smooth(0.0, 0.1), name="linear loss", linear=True))
    found.append(Plan("squared L2, L-BFGS", _lbfgs, double=True))
    return found + [_smooth(*other) for other in others]


def as_known(updates: list[Update], labels: list[Tensor], threat: Threat) -> list[Update]:
    """The updates as the server takes them: with the labels, and plain training where it knows no details."""
    details = threat not in ("A", "B")
    return [
        replace(
            one,
            labels=label,
            local=one.local if details else PLAIN,
            buffers=one.buffers if threat == "E" else None,
        )
        for one, label in zip(updates, labels, strict=True)
    ]


def _smooth(weight: float, step: float) -> Plan:
    def recipe(iterations: int) -> Attack:
        attack = replace(inverting_gradients(tv=weight, iterations=iterations), optimizer=signed_adam(step))
        return attack if weight else replace(attack, priors=())

    return Plan(f"cosine, TV {weight:g}, step {step:g}", recipe)


def _lbfgs(iterations: int) -> Attack:
    return replace(dlg(iterations=iterations), labels=known(), bounds=(0.0, 1.0))


def _statistics(iterations: int) -> Attack:
    attack = inverting_gradients(iterations=iterations)
    return replace(attack, priors=(batch_statistics(1e-3, shared=True), total_variation(1e-2)))


def _drawing(generator: Generator) -> Callable[[int], Attack]:
    def recipe(iterations: int) -> Attack:
        half = iterations // 2
        return gias(
            generator.network, generator.latent, restarts=1, iterations=iterations - half, weight_iterations=half
        )

    return recipe


def _double(model: nn.Module) -> nn.Module:
    return copied(model).double()
