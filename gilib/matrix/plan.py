"""What the book's matrix crosses: its scenes, which attacks fit each, and in how many rounds."""

from dataclasses import replace
from functools import partial

from gilib import iteration, recursion
from gilib.data import Batch
from gilib.iteration import optimizers
from gilib.iteration.labels import known
from gilib.matrix import columns
from gilib.matrix.attacks import Drawn, Linear, Search, Solve
from gilib.matrix.columns import DEFENSES
from gilib.matrix.measure import PATIENCE, AttackCell, Cell, CostCell, cells
from gilib.matrix.mixing import Mixed
from gilib.matrix.scenes import Scene, digits, photographs

SEEDS = (0, 1, 2)
COST_SEEDS = (0, 1, 2, 3, 4)
RATES = (0.1, 1 / 3, 1.0)
"""What the learning rate of each defense was chosen from, times that of its scene."""

_PLAIN_ADAM = replace(iteration.inverting_gradients(iterations=150), optimizer=optimizers.adam(0.1), priors=())

DLG = Search("DLG", replace(iteration.dlg(iterations=150), labels=known()))
INVERTING = Search("Inverting Gradients", _PLAIN_ADAM)
LINEAR = Linear("Linear loss", _PLAIN_ADAM)
GIAS = Drawn("GIAS", iteration.gias, (("iterations", 150), ("weight_iterations", 150), ("restarts", 1)))
SMOOTH = Search("Inverting Gradients, TV", iteration.inverting_gradients(tv=1e-2, iterations=200))
DIVISION = Solve("Division", recursion.phong, partial(recursion.phong, inexact=True))
SPEAR = Solve("SPEAR", recursion.spear)
RGAP = Solve("R-GAP", recursion.rgap)


def lenet_scene(seed: int = 0) -> Scene:
    """Digits and the LeNet of 59 parameters a pixel."""
    return Scene("digits, LeNet", columns.lenet, *digits(), seed=seed)


def convnet_scene(seed: int = 0) -> Scene:
    """Digits and a network that can be inverted layer by layer."""
    return Scene("digits, ConvNet", columns.convnet, *digits(), seed=seed)


def dense_scene(seed: int = 0) -> Scene:
    """Digits and a fully connected network."""
    return Scene("digits, MLP", columns.dense, *digits(), seed=seed)


ENDS = (0, 100)
WIDE = (
    Scene("digits, LeNet, 218 a pixel", columns.wide_lenet, *digits(), stages=ENDS),
    Scene("digits, LeNet, 842 a pixel", columns.widest_lenet, *digits(), stages=ENDS),
)
FOURS = (
    replace(lenet_scene(), name="digits, LeNet, fours", batch=4, stages=ENDS),
    replace(dense_scene(), name="digits, MLP, fours", batch=4, stages=ENDS),
)
PHOTOS = Scene("photographs, LeNet", columns.photo_lenet, *photographs(), rate=0.02)
PHOTOS_FOURS = replace(PHOTOS, name="photographs, LeNet, fours", batch=4, stages=(0,))
RESNET = Scene("photographs, ResNet-8", columns.photo_resnet, *photographs(), rate=0.05, stages=(0,))

COMPRESSING = tuple(one for one in DEFENSES if one.family in ("none", "compression"))
_SLOWER = ("MixUp", "InstaHide", "PRECODE")
ON_PHOTOS = tuple(replace(one, rate=1 / 3) if one.name in _SLOWER else one for one in DEFENSES)
"""At the rates that serve them on digits, these three kill the LeNet of the photographs, or drive it out of bounds."""
UNMIXED, UNMIXED_PHOTOS = (tuple(one for one in found if not isinstance(one, Mixed)) for found in (DEFENSES, ON_PHOTOS))


def matrix() -> list[Cell]:
    """Every cell of the book's matrix."""
    found: list[Cell] = []
    for seed in SEEDS:
        scenes = lenet_scene(seed), convnet_scene(seed), dense_scene(seed)
        for scene, attacks in zip(scenes, ((INVERTING, LINEAR), (RGAP,), (DIVISION, SPEAR)), strict=True):
            found += cells([scene], DEFENSES, attacks, costs=False)
    found += cells([lenet_scene()], DEFENSES, [DLG, GIAS], plain=False, costs=False)
    found += patient(lenet_scene(), INVERTING) + patient(dense_scene(), DIVISION)
    found += cells(WIDE, COMPRESSING, [INVERTING], costs=False)
    found += cells(FOURS[:1], UNMIXED, [INVERTING], costs=False)
    found += cells(FOURS[1:], UNMIXED, [DIVISION, SPEAR], costs=False)
    found += cells([PHOTOS], ON_PHOTOS, [SMOOTH], plain=False, costs=False)
    found += cells([PHOTOS_FOURS], UNMIXED_PHOTOS, [SMOOTH], plain=False, costs=False)
    found += cells([RESNET], DEFENSES, [SMOOTH], plain=False, costs=False)
    return sorted(found, key=_training) + costs()


def patient(scene: Scene, attack: Search | Solve) -> list[Cell]:
    """The adversary who looks at sixteen rounds, at the first and the last stage."""
    ends = scene.stages[0], scene.stages[-1]
    return [AttackCell(scene, defense, attack, stage, PATIENCE) for defense in DEFENSES for stage in ends]


def _training(cell: Cell) -> tuple[str, int, str]:
    """What the cells of one training share, which are computed one after another."""
    return cell.scene.name, cell.scene.seed, cell.defense.name


def pictured() -> list[AttackCell]:
    """The cells whose images are kept, to look at: the digits of the first seed. What is computed fast comes first."""
    ours = [one for one in matrix() if isinstance(one, AttackCell) and one.scene.seed == 0 and one.scene.pixels == 64]
    return sorted(ours, key=_toil)


def _toil(cell: AttackCell) -> tuple[bool, bool, bool]:
    """Whether it takes long, whether a training comes first, and whether it is a search."""
    single = cell.scene.name in ("digits, LeNet", "digits, ConvNet", "digits, MLP")
    solved, trained = isinstance(cell.attack, Solve), cell.stage + cell.rounds > 1
    fast = single and (solved or (cell.rounds == 1 and not isinstance(cell.attack, Drawn)))
    return not fast, trained, not solved


def costs() -> list[Cell]:
    """What each defense costs at its learning rate, and one training at each rate that was tried."""
    found: list[Cell] = []
    for scene in (lenet_scene, dense_scene):
        found += [CostCell(scene(seed), one) for one in DEFENSES for seed in COST_SEEDS]
    return found


def tried() -> list[CostCell]:
    """One training of every defense at every rate, on public digits alone: these chose ``DefenseEntry.rate``."""
    _, public = digits()
    held, rest = (Batch(public.images[part], public.labels[part]) for part in (slice(400), slice(400, None)))
    scene = Scene("public digits, LeNet", columns.lenet, held, rest)
    return [CostCell(scene, replace(one, rate=rate)) for one in DEFENSES for rate in RATES]
