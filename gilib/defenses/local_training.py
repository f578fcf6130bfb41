"""Local iterations as a defense: the client trains for several steps before it shares anything."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gilib.federated import Defense, LocalTraining


@dataclass(frozen=True)
class LocalIterations(Defense):
    """The defense that ``local_iterations`` returns."""

    steps: int
    learning_rate: float
    batch_size: int | None

    def __post_init__(self) -> None:
        self.agree(LocalTraining())  # raises where a value is not positive

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "local_iterations"

    @property
    def public(self) -> Mapping[str, object]:
        """The three settings, which the server has to know because it sets them."""
        return {"steps": self.steps, "learning_rate": self.learning_rate, "batch_size": self.batch_size}

    def agree(self, local: LocalTraining) -> LocalTraining:
        """The same local training with these steps; a clipping and an optimizer that were agreed before stay.

        An order of the samples stays where there are local batches to order.
        """
        whole = {"order": None, "shuffle": False, "drop_last": False} if self.batch_size is None else {}
        agreed: dict[str, Any] = {**self.public, "epochs": None, **whole}
        return replace(local, **agreed)


def local_iterations(steps: int, *, learning_rate: float = 0.1, batch_size: int | None = None) -> Defense:
    """Train for ``steps`` local steps of size ``learning_rate`` and share only the change of the parameters.

    With ``batch_size=None`` each step uses the client's whole batch, otherwise the next ``batch_size`` samples in order
    (see ``LocalTraining``). The server sets these numbers, so they are public, and every attack of this library
    simulates them unless it is told not to. They replace the steps or epochs that were agreed before. Raises ValueError
    for values that are not positive.

    Known as: local iterations, federated averaging (defense). Needs a server that takes changes of parameters.
    Source: Wei et al. (2020), who count local iterations among the settings that decide what leaks. Taught in:
    defenses/local_training.
    """
    return LocalIterations(steps, learning_rate, batch_size)
