"""local_training at 32 x 32: several steps against an attacker who repeats them and one who does not."""

from bench.studies.cells import SearchCell
from bench.studies.victims import Net
from gilib.federated import LocalTraining
from gilib.iteration import inverting_gradients

ATTACK = inverting_gradients(tv=1e-2, iterations=300)

CELLS = [
    SearchCell(
        f"{steps} steps, {'careless' if careless else 'repeated'}",
        Net(network, width, stage),
        ATTACK,
        local=LocalTraining(steps, learning_rate=0.01),
        careless=careless,
    )
    for network, width, trained in (("LeNet", 12, 600), ("ResNet-8", 16, 150))
    for stage in (0, trained)
    for steps, careless in ((1, False), (4, True), (4, False), (8, True), (8, False))
]
