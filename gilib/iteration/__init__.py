"""Iteration-based attacks: search for data whose gradients match the shared ones.

One loop (``attack``) and its ingredients: ``initialization``, ``labels``, ``matching``, ``priors`` and the optimizers.
``recipes`` puts them together as the papers did.
"""

from gilib.iteration import (
    evolution,
    group,
    hidden,
    initialization,
    labels,
    lbfgs,
    matching,
    optimizers,
    priors,
    representation,
)
from gilib.iteration.attack import IterationAttack
from gilib.iteration.recipes import cpl, deep_image_prior, dlg, ggl, gias, gradinversion, idlg, inverting_gradients
from gilib.iteration.reconstruction import Reconstruction
from gilib.iteration.staged import StagedAttack

__all__ = [
    "IterationAttack",
    "Reconstruction",
    "StagedAttack",
    "cpl",
    "deep_image_prior",
    "dlg",
    "evolution",
    "ggl",
    "gias",
    "gradinversion",
    "group",
    "hidden",
    "idlg",
    "initialization",
    "inverting_gradients",
    "labels",
    "lbfgs",
    "matching",
    "optimizers",
    "priors",
    "representation",
]
