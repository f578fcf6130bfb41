"""Gradients of which only the largest entries are sent: pruning, and top-k with error feedback."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from gilib.defenses.gradient.entries import check_share, finite, largest, wide
from gilib.federated import Defense, Gradients, Update

Scope = Literal["tensor", "global"]


@dataclass(frozen=True)
class Pruning(Defense):
    """The defense that ``pruning`` returns."""

    ratio: float
    scope: Scope

    def __post_init__(self) -> None:
        check_share("ratio", self.ratio)
        _check_scope(self.scope)

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "pruning"

    @property
    def public(self) -> Mapping[str, object]:
        """The ratio and the scope; which entries were pruned, everybody sees."""
        return {"ratio": self.ratio, "scope": self.scope}

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """The update with zeros for its smallest entries."""
        return replace(update, gradients=_keep_largest(finite(update), self.ratio, self.scope))


def pruning(ratio: float, *, scope: Scope = "tensor") -> Defense:
    """Replace the share ``ratio`` of the entries, those of smallest magnitude, by zeros; leave the others as they are.

    ``scope="tensor"`` prunes every tensor by itself, ``"global"`` all of them as one long vector. ``round(ratio * n)``
    of n entries go, of equal ones the later, and at least one stays. Raises ValueError for a ratio outside [0, 1), and
    for gradients that are not finite.

    Known as: gradient pruning, gradient compression (defense). Needs nothing of anybody else.
    Source: Zhu et al. (2019), section 5. Taught in: defenses/gradient.
    """
    return Pruning(ratio, scope)


@dataclass
class TopK(Defense):
    """The defense that ``top_k`` returns. It remembers, in float32 at least: one client, one object."""

    kept: float
    scope: Scope
    feedback: bool
    memory: Gradients = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_share("1 - kept", 1 - self.kept)
        _check_scope(self.scope)

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "top_k"

    @property
    def public(self) -> Mapping[str, object]:
        """The settings. The memory never leaves the client."""
        return {"kept": self.kept, "scope": self.scope, "feedback": self.feedback}

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """The largest entries of the update and the memory together; the memory becomes what is left."""
        gradients = finite(update)
        total = {name: wide(value) for name, value in gradients.items()}
        if self.feedback and self.memory:
            shapes = {name: value.shape for name, value in total.items()}
            if shapes != {name: value.shape for name, value in self.memory.items()}:
                raise ValueError(
                    "the memory of top_k belongs to an update with other parameters than the one that came. "
                    "Give every client and every model a top_k() of its own."
                )
            total = {name: value + self.memory[name].to(value.device) for name, value in total.items()}
        chosen = _keep_largest(total, 1 - self.kept, self.scope)
        sent = {name: value.to(gradients[name].dtype) for name, value in chosen.items()}
        if self.feedback:
            self.memory = {name: value - sent[name] for name, value in total.items()}
        return replace(update, gradients=sent)


def top_k(kept: float, *, scope: Scope = "tensor", feedback: bool = True) -> TopK:
    """Send only the share ``kept`` of the entries, and add what was not sent to the next update (error feedback).

    What is returned has a state: ``memory``, which is empty before the first round and then holds what the client still
    owes, so that all that was sent and the memory add up to all gradients. A client needs an object of its own, and a
    second training a new one. With ``feedback=False`` nothing is remembered, and this is ``pruning(1 - kept)``. Raises
    ValueError for a share outside (0, 1], for gradients that are not finite, and for a memory of another model.

    Known as: top-k, error feedback (defense). Needs a memory of what was not sent yet.
    Source: Stich et al. (2018), algorithm 1; the idea of Seide et al. (2014). Taught in: defenses/gradient.
    """
    return TopK(kept, scope, feedback)


def _keep_largest(gradients: Gradients, ratio: float, scope: Scope) -> Gradients:
    """The gradients with zeros for the share ``ratio`` of their entries of smallest magnitude."""
    sizes = [value.numel() for value in gradients.values()]
    joined = torch.cat([value.flatten() for value in gradients.values()])
    groups = joined.split(sizes) if scope == "tensor" else (joined,)
    masks = torch.cat([largest(one, max(1, len(one) - round(ratio * len(one)))) for one in groups]).split(sizes)
    return {
        name: value.masked_fill(~mask.reshape(value.shape), 0)
        for (name, value), mask in zip(gradients.items(), masks, strict=True)
    }


def _check_scope(scope: str) -> None:
    if scope not in ("tensor", "global"):
        raise ValueError(f"scope must be 'tensor' or 'global'; got {scope!r}.")
