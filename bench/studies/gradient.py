"""gradient at 32 x 32: compression against the attacker who knows of it, at three widths."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from bench.studies.cells import SearchCell
from bench.studies.victims import Net
from gilib.defenses.gradient import pruning, quantization, sign_compression
from gilib.federated import Defense
from gilib.iteration import IterationAttack, StagedAttack, inverting_gradients, matching
from gilib.iteration.attack import Attack
from gilib.iteration.matching import Matching

ATTACK = inverting_gradients(tv=1e-2, iterations=300)


def comparing(adapt: Callable[[Matching], Matching]) -> IterationAttack:
    """The attack with what was sent compared as it was made."""
    return replace(ATTACK, matching=adapt(ATTACK.matching))


def afterwards(adapt: Callable[[Matching], Matching]) -> Attack:
    """The plain attack for half of the time, then the adapted one, which needs an image to begin with."""
    return StagedAttack((replace(ATTACK, iterations=150), replace(comparing(adapt), iterations=150)))


COMPRESSIONS: dict[str, tuple[tuple[Defense, ...], Attack]] = {
    "none": ((), ATTACK),
    "pruning 90 %": ((pruning(0.9),), comparing(matching.sent_only)),
    "pruning 99 %": ((pruning(0.99),), comparing(matching.sent_only)),
    "2 bits": ((quantization(2),), afterwards(partial(matching.within_quantized, bits=2))),
    "signs": ((sign_compression(),), afterwards(matching.within_signs)),
}
WIDTHS = (("LeNet", 12), ("ResNet-8", 8), ("ResNet-8", 16), ("ResNet-8", 32))

CELLS = [
    SearchCell(name, Net(network, width, stage), attack, defenses=defenses)
    for network, width in WIDTHS
    for stage in (0, 600 if network == "LeNet" else 150)
    for name, (defenses, attack) in COMPRESSIONS.items()
]
