"""The training of a whole federation, with its defense: the models that are attacked, and how good they become."""

import torch
from torch import nn

from gilib.federated import copied
from gilib.matrix.defenses import DefenseEntry
from gilib.matrix.scenes import Scene, remembered

MOMENTUM = 0.9


class DivergedError(ValueError):
    """A training whose updates are not finite any more."""


def trajectory(defense: DefenseEntry, scene: Scene, rounds: int) -> list[nn.Module]:
    """The model before every round of a defended training, and after ``rounds`` of them, in eval mode.

    Everybody defends from the first round on. Raises DivergedError, a ValueError, where the updates stop being finite.
    """
    model = copied(defense.network(scene)).eval()
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    velocity = {name: torch.zeros_like(value) for name, value in parameters.items()}
    models = [copied(model).eval()]
    for round in range(rounds):
        step = defense.mean(scene, model, scene.others(round), round)
        for name, value in step.items():
            if not bool(value.isfinite().all()):
                raise DivergedError(f"{defense.name} on {scene.name}: round {round} is not finite. Lower the rate.")
            velocity[name] = MOMENTUM * velocity[name] + value
            with torch.no_grad():
                parameters[name].sub_(scene.rate * defense.rate * velocity[name])
        models.append(copied(model).eval())
    return models


def kept(defense: DefenseEntry, scene: Scene, last: int) -> list[nn.Module]:
    """The models of a training, remembered while one cell after another attacks them."""
    return remembered(
        "trajectory", [defense, scene, defense.network(scene), last], lambda: trajectory(defense, scene, last)
    )


def accuracy(defense: DefenseEntry, scene: Scene, model: nn.Module) -> float:
    """The share of the scene's private images that whoever uses the trained network gets right."""
    like = next(model.parameters())
    with torch.no_grad():
        logits = defense.logits(model, scene.private.images.to(like))
    return (logits.argmax(dim=1) == scene.private.labels).double().mean().item()
