"""first_leak at 32 x 32: the cosine at three weights of total variation, from untrained to trained networks."""

from dataclasses import replace
from typing import Any

from bench.studies.cells import SearchCell, in_groups
from bench.studies.victims import Net
from gilib.iteration import inverting_gradients, optimizers
from gilib.iteration.lbfgs import lbfgs

STAGES = (0, 20, 150, 600)
WEIGHTS = (0.0, 1e-3, 1e-2)
ITERATIONS = 600

WALKERS: dict[str, dict[str, Any]] = {
    "Adam 0.1": {"optimizer": optimizers.adam(0.1)},
    "Adam 0.02": {"optimizer": optimizers.adam(0.02)},
    "L-BFGS": {"optimizer": lbfgs(), "bounds": None},
    "four restarts": {"restarts": 4},
}
"""Other ways to walk downhill on the untrained ResNet-8, in case the first one is the reason."""


def attacked(net: Net, tv: float, victims: int, iterations: int = ITERATIONS) -> list[SearchCell]:
    """Inverting Gradients at one weight of total variation."""
    attack = inverting_gradients(tv=tv, iterations=iterations)
    return in_groups(SearchCell(f"cosine, TV {tv:g}", net, attack), victims)


CELLS = [
    *[cell for stage in STAGES for tv in WEIGHTS for cell in attacked(Net("ResNet-8", stage=stage), tv, 16)],
    *[cell for stage in (0, 600) for cell in attacked(Net("LeNet", 12, stage=stage), 1e-3, 16)],
    *[cell for stage in (0, 150) for cell in attacked(Net("ResNet-20", stage=stage), 1e-2, 8)],
    *[cell for stage in (0, 150) for cell in attacked(Net("ResNet-18", 64, stage=stage), 1e-2, 4, iterations=300)],
    *attacked(Net("ResNet-8"), 1e-2, 4, iterations=2000),
    *[cell for stage in (0, 150) for tv in (1e-3, 1e-2) for cell in attacked(Net("ResNet-8", 64, stage), tv, 4)],
    *[cell for name in ("ResNet-8, GELU", "ResNet-8, no pooling") for cell in attacked(Net(name), 1e-2, 8)],
    *[
        SearchCell(
            f"cosine, TV 0.01, {name}",
            Net("ResNet-8"),
            replace(inverting_gradients(tv=1e-2, iterations=ITERATIONS), **changed),
        )
        for name, changed in WALKERS.items()
    ],
]
