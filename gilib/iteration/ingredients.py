"""The survey's list of ingredients, of which an iteration-based attack is made."""

from dataclasses import dataclass, field

from gilib.iteration.group import GroupConsistency
from gilib.iteration.hidden import HiddenDraws, expected
from gilib.iteration.initialization import Initialization
from gilib.iteration.labels import Labels
from gilib.iteration.matching import Matching
from gilib.iteration.optimizers import Optimizer
from gilib.iteration.priors import Prior
from gilib.iteration.representation import Pixels, Representation


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """The settings of an ``IterationAttack``, which says what each of them is. They are enough to run it again."""

    initialization: Initialization
    labels: Labels
    matching: Matching
    optimizer: Optimizer
    iterations: int
    priors: tuple[Prior, ...] = ()
    restarts: int = 1
    bounds: tuple[float, float] | None = (0.0, 1.0)
    representation: Representation = field(default_factory=Pixels)
    group: GroupConsistency | None = None
    draws: HiddenDraws = field(default_factory=expected)

    def __post_init__(self) -> None:
        if self.group is not None and (self.restarts < 2 or not isinstance(self.representation, Pixels)):
            raise ValueError("group consistency compares the images of several restarts: use pixels and restarts >= 2.")
        if self.iterations < 1 or self.restarts < 1:
            raise ValueError(f"iterations and restarts must be at least 1; got {self.iterations} and {self.restarts}.")
