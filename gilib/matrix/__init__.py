"""The matrix: the book's attacks against its defenses, by one adversary a row, over stages, rounds, widths and scenes.

``python -m gilib.matrix`` computes it. A ``Scene`` holds a network and data, a ``DefenseEntry`` is a row and an
``AttackEntry`` a column; ``cells`` crosses any lists of them, and `gilib.studies.run` computes what is missing.
``matrix()`` are the cells of the book. This package may import every other; no other imports it.

Known as: matrix of attacks and defenses (analysis). Needs a network, data and people of one's own, or the book's.
Taught in: defenses/matrix.
"""

from gilib.matrix.attacks import Adaptation, AttackEntry, Drawn, Linear, Search, Solve
from gilib.matrix.columns import DEFENSES
from gilib.matrix.defenses import DefenseEntry, Transformed
from gilib.matrix.measure import AttackCell, Cell, CostCell, cells
from gilib.matrix.mixing import Mixed
from gilib.matrix.plan import matrix, tried
from gilib.matrix.rounds import View
from gilib.matrix.scenes import Scene
from gilib.matrix.sums import Encrypted, Noisy, Summed

__all__ = [
    "DEFENSES",
    "Adaptation",
    "AttackCell",
    "AttackEntry",
    "Cell",
    "CostCell",
    "DefenseEntry",
    "Drawn",
    "Encrypted",
    "Linear",
    "Mixed",
    "Noisy",
    "Scene",
    "Search",
    "Solve",
    "Summed",
    "Transformed",
    "View",
    "cells",
    "matrix",
    "tried",
]
