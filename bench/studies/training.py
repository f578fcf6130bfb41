"""training at 32 x 32: width, stage, batch and the mode of batch norm, with the rank of one update beside them."""

from bench.studies.cells import RankCell, SearchCell
from bench.studies.victims import Net
from gilib.federated.update import Mode
from gilib.iteration import inverting_gradients

STAGES = (0, 150)
NORMS: tuple[tuple[int, Mode], ...] = ((4, "eval"), (16, "eval"), (16, "train"))
ATTACK = inverting_gradients(tv=1e-2, iterations=300)

CELLS = [
    *[
        SearchCell(f"batch of {batch}", Net("ResNet-8", width, stage), ATTACK, batch=batch, mode=mode)
        for batch in (1, 4, 8)
        for width, mode in NORMS
        for stage in STAGES
    ],
    *[RankCell("rank", Net("ResNet-8", width, stage)) for width in (2, 4, 8) for stage in STAGES],
]
