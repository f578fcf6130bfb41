"""limits at 32 x 32: who comes back, on two networks at two stages; the length of the gradient is in every cell."""

from bench.studies.cells import SearchCell, in_groups
from bench.studies.victims import Net
from gilib.iteration import inverting_gradients

CELLS = [
    cell
    for seed in (0, 1)
    for stage in (0, 20)
    for cell in in_groups(
        SearchCell("who", Net("ResNet-8", stage=stage, seed=seed), inverting_gradients(tv=1e-2, iterations=300)),
        40,
        group=8,
    )
]
