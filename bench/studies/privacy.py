"""privacy at 32 x 32: clipped updates with noise, against a weight of total variation tuned to the noise."""

from bench.studies.cells import SearchCell
from bench.studies.victims import Net
from gilib.defenses.privacy import dp_sgd
from gilib.iteration import inverting_gradients

NOISE = (1e-4, 1e-3, 1e-2)
"""Standard deviation of every entry, as a multiple of the clipping norm of 1."""
WEIGHTS = (1e-2, 1e-1, 1.0)

CELLS = [
    SearchCell(
        f"noise {noise:g}, TV {tv:g}",
        Net(network, 12 if network == "LeNet" else 16),
        inverting_gradients(tv=tv, iterations=300),
        defenses=(dp_sgd(1.0, noise),),
    )
    for network in ("LeNet", "ResNet-8")
    for noise in NOISE
    for tv in WEIGHTS
]
