"""What is measured: a cell is one attack on one defense in one scene at one stage, or what a defense costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from gilib import metrics
from gilib.matrix.attacks import Adaptation, AttackEntry
from gilib.matrix.defenses import DefenseEntry
from gilib.matrix.federation import DivergedError, accuracy, kept, trajectory
from gilib.matrix.rounds import View
from gilib.matrix.scenes import Scene, reader
from gilib.studies import key

MEANING = 3
"""Raise this when a measurement changes its meaning without a change of settings: everything is computed anew."""

PATIENCE = 16
"""The rounds that a patient adversary looks at."""

EXACT = 200.0
"""PSNR from which on an image counts as exact; higher ones are cut off here."""


@dataclass(frozen=True)
class AttackCell:
    """One attack on one defense in one scene, begun after ``stage`` rounds of the defended training.

    The adversary looks at ``rounds`` rounds in a row, in which the model moves on and people send updates for the same
    images. With ``plain`` an attacker who has not heard of the defense is measured as well.
    """

    scene: Scene
    defense: DefenseEntry
    attack: AttackEntry
    stage: int
    rounds: int = 1
    plain: bool = False

    @property
    def title(self) -> str:
        """What a progress line says."""
        seen = "a round" if self.rounds == 1 else f"{self.rounds} rounds"
        return f"{self.scene.name}, {self.defense.name}: {self.attack.name}, {seen} from {self.stage}"

    @cached_property
    def key(self) -> str:
        """Changes with every setting that this cell depends on, and with no other."""
        return key([MEANING, self, self.defense.network(self.scene)])

    def models(self) -> list[nn.Module]:
        """The models of the rounds that the adversary looks at."""
        last = max(*self.scene.stages, self.stage) + max(PATIENCE, self.rounds) - 1
        last = last if self.stage + self.rounds > 1 else 0  # without any training
        return kept(self.defense, self.scene, last)[self.stage : self.stage + self.rounds]

    def view(self) -> View:
        """What the adversary sees."""
        return self.defense.view(self.scene, self.models(), self.stage)

    def measure(self) -> dict[str, Any]:
        """PSNR, SSIM, named and read of each image, for one or both attackers, and the accuracy at that stage."""
        view = self.view()
        result = {
            "scene": self.scene.name,
            "seed": self.scene.seed,
            "defense": self.defense.name,
            "attack": self.attack.name,
            "stage": self.stage,
            "rounds": self.rounds,
            "right": round(accuracy(self.defense, self.scene, self.models()[0]), 4),
            "differs": self.defense.differs(self.attack, view),
            "adaptive": quality(self.defense, self.attack, view, "adaptive"),
        }
        if self.plain and result["differs"]:
            result["plain"] = quality(self.defense, self.attack, view, "plain")
            result["differs"] = result["plain"] != result["adaptive"]
        return result


@dataclass(frozen=True)
class CostCell:
    """What one defense costs in one scene: accuracy after its training, and the bytes that a person sends."""

    scene: Scene
    defense: DefenseEntry

    @property
    def title(self) -> str:
        """What a progress line says."""
        return f"{self.scene.name}, cost of {self.defense.name}, rate {self.defense.rate:g}, seed {self.scene.seed}"

    @cached_property
    def key(self) -> str:
        """Changes with every setting that this cell depends on, and not with what an attacker knows."""
        defense = replace(self.defense, adaptation=Adaptation())
        return key([MEANING, replace(self, defense=defense), self.defense.network(self.scene)])

    def measure(self) -> dict[str, Any]:
        """The share of private images that are right at the end of the training, ``longer`` times as many rounds.

        It is zero where the training diverged.
        """
        last = self.scene.stages[-1] * self.defense.longer
        try:
            right = accuracy(self.defense, self.scene, trajectory(self.defense, self.scene, last)[-1])
        except DivergedError:
            right = 0.0
        return {
            "scene": self.scene.name,
            "seed": self.scene.seed,
            "defense": self.defense.name,
            "attack": None,
            "rate": self.defense.rate,
            "accuracy": round(right, 4),
            "bytes": self.defense.sent_bytes(self.scene),
        }


Cell = AttackCell | CostCell


def cells(
    scenes: Sequence[Scene],
    defenses: Sequence[DefenseEntry],
    attacks: Sequence[AttackEntry],
    *,
    rounds: Sequence[int] = (1,),
    plain: bool = True,
    costs: bool = True,
) -> list[Cell]:
    """All attacks on all defenses in all scenes, at every stage, and what the defenses cost.

    Raises ValueError where two scenes of one seed, two defenses or two attacks have one name.
    """
    for kind, names in (
        ("scene", [f"{one.name}, seed {one.seed}" for one in scenes]),
        ("defense", [one.name for one in defenses]),
        ("attack", [one.name for one in attacks]),
    ):
        if len(set(names)) < len(names):
            raise ValueError(f"expected every {kind} to have a name of its own; got {'; '.join(names)}.")
    found: list[Cell] = []
    for scene in scenes:
        for defense in defenses:  # the cells of one training together, so that it is done once
            found += [CostCell(scene, defense)] if costs else []
            found += [
                AttackCell(scene, defense, attack, stage, count, plain)
                for attack in attacks
                for stage in scene.stages
                for count in rounds
            ]
    return found


def returned(defense: DefenseEntry, attack: AttackEntry, view: View, way: str) -> Tensor:
    """An attacker's images (people * batch, C, H, W) in [0, 1], each in the place of the image that it fits best.

    Raises ValueError where the attack does not apply.
    """
    images: Tensor = getattr(defense, way)(attack, view).detach().double().nan_to_num().clamp(0, 1)
    truth = victims(defense, view.scene)
    group = len(truth) // len(view.sent[0])
    parts = zip(images.split(group), truth.split(group), strict=True)
    return torch.cat([found[metrics.match(found, true)] for found, true in parts])


def victims(defense: DefenseEntry, scene: Scene) -> Tensor:
    """The true images (people * batch, C, H, W) of the people under attack."""
    return scene.private.images[defense.victims(scene)].double()


def quality(defense: DefenseEntry, attack: AttackEntry, view: View, way: str) -> dict[str, Any]:
    """What an attacker's images are worth, image by image: PSNR, SSIM, whether it is named, whether it is read."""
    try:
        images = returned(defense, attack, view, way)
    except ValueError as error:  # the attack says that it does not apply
        return {"refused": str(error)}
    scene, own, truth = view.scene, defense.victims(view.scene), victims(defense, view.scene)
    return {
        "psnr": [round(value, 2) for value in metrics.psnr(images, truth).clamp(max=EXACT).tolist()],
        "ssim": [round(value, 3) for value in metrics.ssim(images, truth).tolist()],
        "named": metrics.named(images, scene.everything.double(), own).int().tolist(),
        "read": metrics.read(images, scene.private.labels[own], reader(scene)).int().tolist(),
    }
