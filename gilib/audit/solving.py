"""Attacks that solve instead of searching: exact where they apply, and quick to say where they do not."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gilib.audit.adaptation import Adapted
from gilib.audit.finding import Finding
from gilib.audit.judge import Judge
from gilib.audit.target import Target
from gilib.federated import Update
from gilib.recursion import lone_inputs, phong, rgap, spear

Solver = Callable[[Judge, Adapted], Finding]
LARGEST = 1_024
"""Pixels up to which R-GAP is tried: it solves a system of so many unknowns in every layer."""


def divide(judge: Judge, how: Adapted) -> Finding:
    """The first layer's division; where a defense blurred it, the nearest image in the box."""
    target = judge.target
    found = [phong(target.model, one, inexact=how.search.in_box).images for one in target.updates]
    return judge.images("first layer by division", _finished(how, found))


def divide_lone(judge: Judge, how: Adapted) -> Finding:
    """Images of a batch that two neurons of the first layer saw alone."""
    target = judge.target
    found = [_lone(target.model, one) for one in target.updates]
    note = f"; {sum(map(len, found))} images seen alone"
    return judge.images("neurons that saw one image", _finished(how, found), note=note)


def solve_batch(judge: Judge, how: Adapted) -> Finding:
    """SPEAR: the whole batch, exactly."""
    target = judge.target
    found = [spear(target.model, one) for one in target.updates]
    exact = sum(one.exact for one in found)
    note = f"; {exact} of {len(found)} batches passed SPEAR's own check"
    images = _finished(how, [one.images for one in found])
    return judge.images("whole batch (SPEAR)", images, note=note, numbers={"exact": exact})


def solve_layers(judge: Judge, how: Adapted) -> Finding:
    """R-GAP: one image, layer by layer."""
    target = judge.target
    pixels = target.truth[0].numel()
    if pixels > LARGEST:
        raise ValueError(f"left out: {pixels:,} pixels, and it is tried up to {LARGEST:,}.")
    found = [rgap(target.model, one).images for one in target.updates]
    return judge.images("layer by layer (R-GAP)", _finished(how, found))


def solvers(target: Target) -> dict[str, Solver]:
    """What is tried, by name, for one image or for several."""
    if target.batch == 1:
        return {"first layer by division": divide, "layer by layer (R-GAP)": solve_layers}
    return {"neurons that saw one image": divide_lone, "whole batch (SPEAR)": solve_batch}


def _finished(how: Adapted, found: Sequence[Tensor]) -> list[Tensor]:
    return [how.finished(images) if len(images) else images for images in found]


def _lone(model: nn.Module, update: Update) -> Tensor:
    report = phong(model, update).layers[0]  # checks that the first layer sees the pixels as they are
    prefix = f"{report.name}." if report.name else ""
    weight, bias = (update.gradients[f"{prefix}{kind}"].detach().cpu() for kind in ("weight", "bias"))
    found = lone_inputs(weight, bias)
    if len(found) == 0:
        return torch.empty(0, *update.image_shape, dtype=torch.float64)
    return found.double().unflatten(1, update.image_shape)
