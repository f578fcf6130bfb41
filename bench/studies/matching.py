"""matching at 32 x 32: squared L2 and TAG beside the cosine of ``first_leak``, at the same weights and budget."""

from dataclasses import replace

from bench.studies.cells import SearchCell, in_groups
from bench.studies.first_leak import ITERATIONS, WEIGHTS
from bench.studies.victims import Net
from gilib.iteration import inverting_gradients, matching

DISTANCES = {"squared L2": matching.squared_l2(), "TAG": matching.tag()}

CELLS = [
    cell
    for stage in (0, 150)
    for name, distance in DISTANCES.items()
    for tv in WEIGHTS
    for cell in in_groups(
        SearchCell(
            f"{name}, TV {tv:g}",
            Net("ResNet-8", stage=stage),
            replace(inverting_gradients(tv=tv, iterations=ITERATIONS), matching=distance),
        ),
        8,
    )
]
