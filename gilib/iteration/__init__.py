"""Iteration-based attacks: search for data whose gradients match the shared ones.

One loop (``attack``) and its ingredients: ``initialization``, ``labels``, ``matching``, ``priors`` and the optimizers.
``recipes`` puts them together as the papers did.
"""

from gilib.iteration import initialization, labels, lbfgs, matching, optimizers, priors
from gilib.iteration.attack import IterationAttack
from gilib.iteration.recipes import cpl, dlg, idlg, inverting_gradients
from gilib.iteration.reconstruction import Reconstruction

__all__ = [
    "IterationAttack",
    "Reconstruction",
    "cpl",
    "dlg",
    "idlg",
    "initialization",
    "inverting_gradients",
    "labels",
    "lbfgs",
    "matching",
    "optimizers",
    "priors",
]
