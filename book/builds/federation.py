"""What is audited: the network that is trained, and a client as it is deployed."""

from torch import nn

from gilib.federated import Client, LocalTraining


def model() -> nn.Module:
    """The network, with the weights that clients receive. Load yours here."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def client(model: nn.Module) -> Client:
    """How a client trains and what it defends itself with; a seed, so that every build audits the same client."""
    return Client(model, local=LocalTraining(1, learning_rate=0.1), defenses=(), seed=0)
