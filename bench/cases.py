"""What is measured: two networks, their victims, and the same attack in every implementation's words."""

from dataclasses import dataclass
from functools import cache

from torch import nn

from bench.peer import Settings
from gilib import data, models
from gilib.data import Batch, Dataset
from gilib.federated import Client, Update
from gilib.iteration import IterationAttack, dlg, inverting_gradients
from gilib.iteration.initialization import normal
from gilib.iteration.labels import known
from gilib.iteration.matching import cosine, squared_l2
from gilib.iteration.optimizers import adam, signed_adam
from gilib.iteration.priors import total_variation

# The weight of total variation, the same number on both sides. It means nearly the same there: ours and breaching's are
# means over pixels and channels of |vertical| + |horizontal| difference, on the three colours as they are (breaching's
# double opponents, differences of colours, are off). Two things differ. Ours divides by the number of differences,
# breaching's by that of pixels: a factor of 31/32 at 32 x 32. And breaching's pads with zeros, so that its last row and
# column are pulled towards black. Its own default is 0.2.
TV = 1e-3
SAME_TV = f"regularization.total_variation.scale={TV}"
BREACHING, BREACHING_SAME_TV = "breaching", "breaching, TV as ours"


@dataclass(frozen=True)
class Case:
    """One network, one attack on it, and the targets it is held to.

    ``timed`` is the attack whose iterations are timed, in our words; ``peer`` the same in breaching's words.
    ``quality`` and ``peer_quality`` are each library's own recipe for this network, ``length`` iterations long;
    breaching's also with our weight of total variation, where the recipe has one.
    """

    name: str
    model: nn.Module
    timed: IterationAttack
    peer: Settings
    quality: IterationAttack
    peer_quality: dict[str, Settings]
    length: str
    targets: dict[str, float]


def signs() -> IterationAttack:
    """Inverting Gradients at a fixed step: cosine, a little total variation, Adam on signs, in the box."""
    return IterationAttack(
        initialization=normal(0.5, 0.1),
        labels=known(),
        matching=cosine(),
        priors=(total_variation(TV),),
        optimizer=signed_adam(0.1),
        iterations=1,
    )


def plain_adam() -> IterationAttack:
    """Squared L2 and Adam, without a box."""
    return IterationAttack(
        initialization=normal(0.5, 0.1),
        labels=known(),
        matching=squared_l2(),
        optimizer=adam(0.1),
        iterations=1,
        bounds=None,
    )


def lenet(evaluations: int, *, size: int) -> Case:
    """The sigmoid LeNet under squared L2 and Adam."""
    # An iteration of torch.optim.LBFGS is up to 20 evaluations.
    recipe = ("deepleakage", (f"optim.max_iterations={evaluations // 20}",))
    return Case(
        name="sigmoid LeNet",
        model=models.lenet(size=size),
        timed=plain_adam(),
        peer=("_default_optimization_attack", ("optim.step_size=0.1",)),
        quality=dlg(iterations=evaluations),
        peer_quality={BREACHING: recipe},
        length=f"DLG, {evaluations} evaluations",
        targets={"stack": 6.0, "compiled": 12.0},
    )


def convnet(iterations: int, *, size: int) -> Case:
    """The strided ReLU ConvNet under cosine, signs and total variation."""
    length = f"optim.max_iterations={iterations}"
    return Case(
        name="strided ReLU ConvNet",
        model=models.convnet(size=size, widths=(32, 64, 64, 128)),
        timed=signs(),
        peer=("invertinggradients", (SAME_TV,)),
        quality=inverting_gradients(tv=TV, iterations=iterations),
        peer_quality={
            BREACHING: ("invertinggradients", (length,)),
            BREACHING_SAME_TV: ("invertinggradients", (length, SAME_TV)),
        },
        length=f"Inverting Gradients, {iterations} iterations",
        targets={"stack": 1.3, "compiled": 3.0},
    )


def cases(*, quick: bool) -> list[Case]:
    """Both networks on photographs of 32 pixels with attacks of full length, or of 16 pixels with short ones."""
    return [lenet(100, size=16), convnet(80, size=16)] if quick else [lenet(2000, size=32), convnet(1000, size=32)]


def victims(model: nn.Module, count: int, *, size: int = 32) -> tuple[list[Batch], list[Update]]:
    """One photograph each, labels shared."""
    batches = [photos(size).batch(index) for index in range(count)]
    return batches, [Client(model, share_labels=True).update(batch) for batch in batches]


@cache
def photos(size: int) -> Dataset:
    """Photographs of so many pixels, read once."""
    return data.load("photos", size=size)
