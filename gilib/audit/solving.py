"""Attacks that solve instead of searching: exact where they apply, and quick to say where they do not."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gilib.audit.adaptation import Adapted
from gilib.audit.finding import Finding
from gilib.audit.judge import Judge
from gilib.audit.target import Target
from gilib.federated import Update
from gilib.recursion import Reconstruction, lone_inputs, phong, rgap, spear

Late = Callable[[], bool]
"""Whether there is no more time, so that the victims that are left have to be left out."""
Solver = Callable[[Judge, Adapted, Late], Finding]
LARGEST = 1_024
"""Pixels up to which R-GAP is tried: it solves a system of so many unknowns in every layer."""


def divide(judge: Judge, how: Adapted, late: Late) -> Finding:
    """The first layer's division; where a defense blurred it, the nearest image in the box."""

    def solve(model: nn.Module, update: Update) -> Tensor:
        return phong(model, update, inexact=how.search.in_box).images

    found = _finished(how, _each(judge, solve, late))
    return judge.images("first layer by division", found, unadapted=(*how.missing, *how.searched))


def divide_lone(judge: Judge, how: Adapted, late: Late) -> Finding:
    """Images of a batch that two neurons of the first layer saw alone."""
    found = _each(judge, _lone, late)
    note = f"; {sum(map(len, found))} images seen alone"
    return judge.images("neurons that saw one image", _finished(how, found), note=note, unadapted=_inexact(how))


def solve_batch(judge: Judge, how: Adapted, late: Late) -> Finding:
    """SPEAR: the whole batch, exactly."""
    reports: list[Reconstruction] = []

    def solve(model: nn.Module, update: Update) -> Tensor:
        reports.append(spear(model, update))
        return reports[-1].images

    images = _finished(how, _each(judge, solve, late))
    exact = sum(one.exact for one in reports)
    note = f"; {exact} of {len(reports)} batches passed SPEAR's own check"
    return judge.images("whole batch (SPEAR)", images, note=note, numbers={"exact": exact}, unadapted=_inexact(how))


def solve_layers(judge: Judge, how: Adapted, late: Late) -> Finding:
    """R-GAP: one image, layer by layer."""
    pixels = judge.target.truth[0].numel()
    if pixels > LARGEST:
        raise ValueError(f"left out: {pixels:,} pixels, and it is tried up to {LARGEST:,}.")
    found = _each(judge, lambda model, update: rgap(model, update).images, late)
    return judge.images("layer by layer (R-GAP)", _finished(how, found), unadapted=_inexact(how))


def solvers(target: Target) -> dict[str, Solver]:
    """What is tried, by name, for one image or for several."""
    if target.batch == 1:
        return {"first layer by division": divide, "layer by layer (R-GAP)": solve_layers}
    return {"neurons that saw one image": divide_lone, "whole batch (SPEAR)": solve_batch}


def _each(judge: Judge, solve: Callable[[nn.Module, Update], Tensor], late: Late) -> list[Tensor]:
    """What a solver finds for one victim after another, for one at least."""
    found: list[Tensor] = []
    for update in judge.target.updates:
        if found and late():
            break
        found.append(solve(judge.target.model, update))
    return found


def _inexact(how: Adapted) -> tuple[str, ...]:
    """The defenses whose blur a solver of exact equations takes no account of."""
    return (*how.missing, *how.searched, *how.boxed)


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
