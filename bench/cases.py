"""What is measured: two networks, their victims, and the same attack in every implementation's words."""

from dataclasses import dataclass

from torch import nn

from gilib import data, models
from gilib.data import Batch
from gilib.federated import Client, Update
from gilib.iteration import IterationAttack, dlg, inverting_gradients
from gilib.iteration.initialization import normal
from gilib.iteration.labels import known
from gilib.iteration.matching import cosine, squared_l2
from gilib.iteration.optimizers import adam, signed_adam
from gilib.iteration.priors import total_variation

TV = 1e-3


@dataclass(frozen=True)
class Case:
    """One network, one attack on it, and the targets it is held to.

    ``timed`` is the attack whose iterations are timed, in our words; ``peer`` the same in breaching's words.
    ``quality`` and ``peer_quality`` are each library's own recipe for this network, ``length`` iterations long.
    """

    name: str
    model: nn.Module
    timed: IterationAttack
    peer: tuple[str, tuple[str, ...]]
    quality: IterationAttack
    peer_quality: tuple[str, tuple[str, ...]]
    length: str
    targets: dict[str, float]


def cases(*, quick: bool) -> list[Case]:
    """The sigmoid LeNet under squared L2 and Adam, the strided ReLU ConvNet under cosine, signs and total variation."""
    evaluations, iterations = (200, 40) if quick else (2000, 1000)
    plain_adam = IterationAttack(
        initialization=normal(0.5, 0.1),
        labels=known(),
        matching=squared_l2(),
        optimizer=adam(0.1),
        iterations=1,
        bounds=None,
    )
    signs = IterationAttack(
        initialization=normal(0.5, 0.1),
        labels=known(),
        matching=cosine(),
        priors=(total_variation(TV),),
        optimizer=signed_adam(0.1),
        iterations=1,
    )
    return [
        Case(
            name="sigmoid LeNet",
            model=models.lenet(),
            timed=plain_adam,
            peer=("_default_optimization_attack", ("optim.step_size=0.1",)),
            quality=dlg(iterations=evaluations),
            # An iteration of torch.optim.LBFGS is up to 20 evaluations.
            peer_quality=("deepleakage", (f"optim.max_iterations={evaluations // 20}",)),
            length=f"DLG, {evaluations} evaluations",
            targets={"stack": 6.0, "compiled": 12.0},
        ),
        Case(
            name="strided ReLU ConvNet",
            model=models.convnet(widths=(32, 64, 64, 128)),
            timed=signs,
            peer=("invertinggradients", (f"regularization.total_variation.scale={TV}",)),
            quality=inverting_gradients(iterations=iterations),
            peer_quality=("invertinggradients", (f"optim.max_iterations={iterations}",)),
            length=f"Inverting Gradients, {iterations} iterations",
            targets={"stack": 1.3, "compiled": 3.0},
        ),
    ]


def victims(model: nn.Module, count: int) -> tuple[list[Batch], list[Update]]:
    """One photograph each, labels shared."""
    photos = data.load("photos")
    batches = [photos.batch(index) for index in range(count)]
    return batches, [Client(model, share_labels=True).update(batch) for batch in batches]
