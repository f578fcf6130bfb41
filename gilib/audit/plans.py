"""Which searches an audit tries, from the letter of the threat model and what the update allows."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from gilib.audit.settings import Threat
from gilib.audit.target import Target
from gilib.federated import PLAIN, Update, copied
from gilib.iteration import IterationAttack, dlg, inverting_gradients
from gilib.iteration.labels import known
from gilib.iteration.priors import batch_statistics, total_variation
from gilib.matrix_next.attacks import linearised

SMOOTH = (1e-2, 1e-1, 0.0, 1e-3)
"""Weights of total variation that the audit chooses from, the likeliest first; a server without priors has 0 alone."""


@dataclass(frozen=True)
class Plan:
    """A search with its number of iterations left open. ``linear`` replaces the loss by its slope at the logits."""

    name: str
    recipe: Callable[[int], IterationAttack]
    linear: bool = False
    double: bool = False

    def prepared(self, model: nn.Module, updates: list[Update]) -> tuple[nn.Module, list[Update]]:
        """The model and the updates as this search takes them."""
        if self.double:
            model = _double(model)
            updates = [replace(one, gradients={k: v.double() for k, v in one.gradients.items()}) for one in updates]
        return model, linearised(model, updates) if self.linear else updates


def plans(target: Target, threat: Threat) -> list[Plan]:
    """The searches for these clients, in the order in which they are tried where time is short."""
    weights = (0.0,) if threat == "A" else SMOOTH
    sent = target.updates[0]
    found = [Plan("cosine, shared statistics", _statistics)] if threat == "E" and sent.buffers is not None else []
    found.append(Plan(f"cosine, TV {weights[0]:g}", _smooth(weights[0])))
    if target.batch == 1 and sent.local.single:
        found.append(Plan("linear loss", _smooth(0.0), linear=True))
    found.append(Plan("squared L2, L-BFGS", _lbfgs, double=True))
    return found + [Plan(f"cosine, TV {weight:g}", _smooth(weight)) for weight in weights[1:]]


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


def _smooth(weight: float) -> Callable[[int], IterationAttack]:
    def recipe(iterations: int) -> IterationAttack:
        attack = inverting_gradients(tv=weight, iterations=iterations)
        return attack if weight else replace(attack, priors=())

    return recipe


def _lbfgs(iterations: int) -> IterationAttack:
    return replace(dlg(iterations=iterations), labels=known(), bounds=(0.0, 1.0))


def _statistics(iterations: int) -> IterationAttack:
    attack = inverting_gradients(iterations=iterations)
    return replace(attack, priors=(batch_statistics(1e-3, shared=True), total_variation(1e-2)))


def _double(model: nn.Module) -> nn.Module:
    return copied(model).double()
