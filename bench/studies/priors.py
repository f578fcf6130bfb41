"""priors at 32 x 32: batches of four in train mode on a ReLU network, with one prior at a time."""

from dataclasses import replace

from bench.studies.cells import SearchCell, in_groups
from bench.studies.victims import Net
from gilib.iteration import inverting_gradients
from gilib.iteration.priors import batch_statistics, total_variation

PRIORS = {
    "none": (),
    "total variation": (total_variation(1e-2),),
    "running statistics": (batch_statistics(1e-3),),
    "shared statistics": (batch_statistics(1e-3, shared=True),),
    "shared statistics and total variation": (batch_statistics(1e-3, shared=True), total_variation(1e-2)),
}
ATTACK = inverting_gradients(iterations=400)

CELLS = [
    cell
    for stage in (0, 150)
    for name, priors in PRIORS.items()
    for cell in in_groups(
        SearchCell(
            name, Net("ResNet-8", stage=stage), replace(ATTACK, priors=priors), batch=4, mode="train", buffers=True
        ),
        4,
        group=2,
    )
]
