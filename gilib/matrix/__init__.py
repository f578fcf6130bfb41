"""The matrix: every attack of the book against every defense, plain and adaptive, at two stages of training.

``python -m gilib.matrix`` computes it. ``ATTACKS`` and ``DEFENSES`` are its rows and columns; ``cells`` crosses any
lists of them, and `gilib.studies.run` computes what is missing. This package may import every
other; no other imports it.

Taught in: defenses/matrix.
"""

from gilib.matrix.attacks import ATTACKS, Adaptation, AttackEntry, Drawn, Search, Solve
from gilib.matrix.columns import DEFENSES
from gilib.matrix.defenses import DefenseEntry, Encrypted, Mixed, Summed, Transformed
from gilib.matrix.measure import AttackCell, Cell, CostCell, cells
from gilib.matrix.scenes import NETWORKS, STAGES, Scene, scene

__all__ = [
    "ATTACKS",
    "DEFENSES",
    "NETWORKS",
    "STAGES",
    "Adaptation",
    "AttackCell",
    "AttackEntry",
    "Cell",
    "CostCell",
    "DefenseEntry",
    "Drawn",
    "Encrypted",
    "Mixed",
    "Scene",
    "Search",
    "Solve",
    "Summed",
    "Transformed",
    "cells",
    "scene",
]
