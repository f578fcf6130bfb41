"""What a client does, without Flower: its network, its images, its training."""

from collections import OrderedDict
from functools import cache

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gilib import data, models
from gilib.data import Batch
from gilib.federated import copied
from gilib.federated import train as trained_by_the_server

DIGITS, PHOTOS = data.load("digits"), data.load("photos", size=32)
STEPS = 150


def network(name: str, *, trained: bool = False) -> nn.Module:
    """The network that a federation begins with: untrained, or trained by the server on public digits of its own."""
    return copied(_begun(name, STEPS if trained else 0))


@cache
def _begun(name: str, steps: int) -> nn.Module:
    """Trained in float64, in which processors agree."""
    if name == "quickstart":
        return quickstart()
    model = models.mlp(channels=1, size=8, hidden=(8,))
    if name != "dense":
        model = models.convnet(channels=1, size=8, widths=(8, 12), norm="batch" if name == "batch norm" else None)
    return trained_by_the_server(model.double(), DIGITS.batch(range(600, 1200)), stages=[steps])[steps].float()


def quickstart(seed: int = 0) -> nn.Module:
    """The layers of the network in Flower's quickstart for PyTorch, for 3 x 32 x 32 pixels; weights drawn here."""
    layers: dict[str, nn.Module] = {"conv1": nn.Conv2d(3, 6, 5), "relu1": nn.ReLU(), "pool1": nn.MaxPool2d(2)}
    layers |= {"conv2": nn.Conv2d(6, 16, 5), "relu2": nn.ReLU(), "pool2": nn.MaxPool2d(2), "flatten": nn.Flatten()}
    layers |= {"fc1": nn.Linear(400, 120), "relu3": nn.ReLU(), "fc2": nn.Linear(120, 84), "relu4": nn.ReLU()}
    return models.draw_weights(nn.Sequential(OrderedDict(layers | {"fc3": nn.Linear(84, 10)})), seed=seed)


def partition(client: int, count: int, network: str = "dense") -> Batch:
    """The images of one client, counted from 0, none of which has two owners: digits, or photographs 32 pixels wide."""
    images = PHOTOS if network == "quickstart" else DIGITS
    return images.batch(range(client * count, (client + 1) * count))


def accuracy(model: nn.Module) -> float:
    """The share of digits that the model reads right, among the last 597, which no client has."""
    unseen = DIGITS.batch(range(1200, 1797))
    with torch.no_grad():
        right = model.eval()(unseen.images).argmax(dim=1) == unseen.labels
    return right.double().mean().item()


def train(model: nn.Module, batch: Batch, *, epochs: int, batch_size: int, lr: float, seed: int) -> float:
    """Train in place, with momentum and shuffled batches, as Flower's quickstart does; returns the mean loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    loader = DataLoader(
        TensorDataset(batch.images, batch.labels),
        batch_size=batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(seed),
    )
    model.train()
    total = 0.0
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
    return total / (epochs * len(loader))
