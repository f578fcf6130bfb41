"""Federations that are split by columns: who holds what, what the server learns, and what parties can do about it.

`Vertical` makes rounds, `cafe` reads them: `shots` and `front` are its three linear systems, `schedules` the matrix of
memberships on which they stand. `find_memberships` does without indices, `follow` with a model that moves.
"""

from gilib.frontiers.vertical.attack import Sums, cafe, sums_of
from gilib.frontiers.vertical.blind import find_memberships
from gilib.frontiers.vertical.defenses import fake, noisy, under_other_indices, unfaked
from gilib.frontiers.vertical.descent import descend
from gilib.frontiers.vertical.federation import Columns, Joined, Party, Vertical, VerticalUpdate, quadrants
from gilib.frontiers.vertical.front import Dense, first_dense, solve_front
from gilib.frontiers.vertical.moving import follow
from gilib.frontiers.vertical.networks import four_quarters
from gilib.frontiers.vertical.schedules import drawn, membership, partition, reshuffled
from gilib.frontiers.vertical.search import Search
from gilib.frontiers.vertical.shots import first_shot, second_shot

__all__ = [
    "Columns",
    "Dense",
    "Joined",
    "Party",
    "Search",
    "Sums",
    "Vertical",
    "VerticalUpdate",
    "cafe",
    "descend",
    "drawn",
    "fake",
    "find_memberships",
    "first_dense",
    "first_shot",
    "follow",
    "four_quarters",
    "membership",
    "noisy",
    "partition",
    "quadrants",
    "reshuffled",
    "second_shot",
    "solve_front",
    "sums_of",
    "under_other_indices",
    "unfaked",
]
