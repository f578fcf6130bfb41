"""What is measured: a cell is one attack against one defense at one stage, or the cost of one defense."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gilib import metrics
from gilib.federated import fit
from gilib.matrix.attacks import AttackEntry
from gilib.matrix.defenses import DefenseEntry
from gilib.matrix.scenes import PEOPLE, STAGES
from gilib.studies import key

MEANING = 2
"""Raise this when a measurement changes its meaning without a change of settings: everything is computed anew."""

EXACT = 200.0
"""PSNR from which on an image counts as exact; higher ones are cut off here."""

COST_NETWORK = "ConvNet"


@dataclass(frozen=True)
class AttackCell:
    """One attack against one defense at one stage, plain and adaptive."""

    attack: AttackEntry
    defense: DefenseEntry
    stage: int

    @property
    def title(self) -> str:
        """What a progress line says."""
        return f"{self.attack.name} on {self.defense.name}, stage {self.stage}"

    @property
    def key(self) -> str:
        """Changes with every setting that this cell depends on, and with no other."""
        return key([MEANING, PEOPLE, self.attack, self.defense, self.stage, self.defense.network(self.attack.network)])

    def measure(self) -> dict[str, Any]:
        """PSNR and SSIM of each person's image, for both attackers."""
        at = self.defense.scene(self.attack.network, self.stage)
        found = {"attack": self.attack.name, "defense": self.defense.name, "stage": self.stage}
        ways = {"plain": self.defense.plain, "adaptive": self.defense.adaptive}
        return found | {name: _quality(way, self.attack, at) for name, way in ways.items()}


@dataclass(frozen=True)
class CostCell:
    """What one defense costs: accuracy after a training, bytes and seconds of an update."""

    defense: DefenseEntry

    @property
    def title(self) -> str:
        """What a progress line says."""
        return f"cost of {self.defense.name}"

    @property
    def key(self) -> str:
        """Changes with every setting that this cell depends on, and with no other."""
        return key([MEANING, self.defense, self.defense.network(COST_NETWORK)])

    def measure(self) -> dict[str, Any]:
        """The share of unseen digits that are right, bytes that one sends, and seconds of an update on eight digits."""
        at = self.defense.scene(COST_NETWORK, 0)
        model = fit(
            self.defense.client(at.model),
            at.training,
            rounds=self.defense.rounds,
            learning_rate=self.defense.rate,
            momentum=self.defense.momentum,
            batch_size=64,
        )
        right = self.defense.answers(model, at.unseen.images.double()) == at.unseen.labels
        plain = DefenseEntry("none", "none")
        return {
            "attack": None,
            "defense": self.defense.name,
            "accuracy": right.double().mean().item(),
            "bytes": self.defense.sent_bytes(at),
            "seconds": _seconds(self.defense, at),
            "plain seconds": _seconds(plain, plain.scene(COST_NETWORK, 0)),
        }


Cell = AttackCell | CostCell


def cells(attacks: Sequence[AttackEntry], defenses: Sequence[DefenseEntry]) -> list[Cell]:
    """Every cell of the matrix: the costs first. Raises ValueError where two entries have one name."""
    for kind, names in (("attack", [a.name for a in attacks]), ("defense", [d.name for d in defenses])):
        if len(set(names)) < len(names):
            raise ValueError(f"expected every {kind} to have a name of its own; got {', '.join(names)}.")
    costs = [CostCell(defense) for defense in defenses]
    return [*costs, *(AttackCell(a, d, s) for a in attacks for d in defenses for s in STAGES)]


def _quality(way: Any, attack: AttackEntry, at: Any) -> dict[str, Any]:
    try:
        images: Tensor = way(attack, at).detach().clamp(0, 1)
    except ValueError as error:  # the attack says that it does not apply
        return {"refused": str(error)}
    return {
        "psnr": [round(value, 4) for value in metrics.psnr(images, at.truth).clamp(max=EXACT).tolist()],
        "ssim": [round(value, 4) for value in metrics.ssim(images, at.truth).tolist()],
    }


def _seconds(defense: DefenseEntry, at: Any, repeats: int = 20) -> float:
    client, times = defense.client(at.model), []
    for turn in range(repeats):
        start = time.perf_counter()
        client.update(at.all, round=turn)
        times.append(time.perf_counter() - start)
    return min(times)  # the least disturbed
