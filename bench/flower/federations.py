"""The federations that are recorded, and their settings; Flower is not needed to read them."""

from dataclasses import asdict, dataclass
from typing import Literal

Defense = Literal["", "server clips", "client clips", "local noise", "secure sum"]
DEFENSES: tuple[Defense, ...] = ("", "server clips", "client clips", "local noise", "secure sum")
CLIP, SERVER_NOISE = 0.1, 1.0
"""The largest norm of a change, and the noise that a server adds to the sum, in multiples of it."""
EPSILON, DELTA = 10.0, 1e-5
"""What local noise promises for one round, by the formula that Flower's modifier uses."""
WEIGHT, RANGE = 64.0, 2.0
"""Of the secure sum: the most examples that a client may have, and the largest weight of the network."""


@dataclass(frozen=True)
class Federation:
    """Who trains what: clients 1 to ``clients`` with so many ``images`` each; what the first ``watched`` send is kept.

    Epochs, batch size and learning rate are those of Flower's quickstart unless given, and so is the momentum of
    `task.train`. With ``trained`` the network comes to the clients after a training by the server.
    """

    network: Literal["dense", "conv", "batch norm", "quickstart"]
    images: int
    watched: int
    trained: bool = False
    clients: int = 8
    rounds: int = 1
    epochs: int = 1
    batch_size: int = 32
    lr: float = 0.1
    defense: Defense = ""

    def config(self) -> dict[str, str | int | float | bool]:
        """What the server tells its clients: it decides how they train, so it knows."""
        names = ("network", "trained", "images", "epochs", "batch_size", "lr")
        return {name: value for name, value in asdict(self).items() if name in names}


def federations() -> dict[str, Federation]:
    """All of them, by name."""
    found: dict[str, Federation] = {
        "one digit": Federation("dense", 1, 8),
        "one digit, trained": Federation("dense", 1, 8, trained=True),
        "eight digits": Federation("conv", 8, 3),
        "eight digits, trained": Federation("conv", 8, 3, trained=True),
        "three epochs": Federation("conv", 8, 3, epochs=3, batch_size=4),
        "three epochs, trained": Federation("conv", 8, 3, trained=True, epochs=3, batch_size=4),
        "batch norm": Federation("batch norm", 8, 3),
        "sixty-four digits": Federation("conv", 64, 2),
        "one photograph": Federation("quickstart", 1, 4),
        "one photograph, three epochs": Federation("quickstart", 1, 4, epochs=3),
        "eight photographs, two epochs": Federation("quickstart", 8, 2, epochs=2, batch_size=4),
    }
    found |= {name: Federation("dense", 1, 8, defense=name) for name in DEFENSES if name}
    return found


def costs() -> dict[str, Federation]:
    """Ten rounds under each defense, of which only the accuracy is kept."""
    return {name or "none": Federation("conv", 8, 0, trained=True, rounds=10, defense=name) for name in DEFENSES}
