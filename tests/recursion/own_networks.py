"""Networks written as classes, and small helpers, that the tests of the recursion share."""

import torch
from torch import nn
from torch.nn import functional

from gilib import metrics, models
from gilib.data import Batch
from gilib.federated import LocalTraining, Update

SHAPE = (3, 8, 8)


class Quickstart(nn.Module):
    """Two convolutions with pooling and three fully connected layers, the activations as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        x = functional.relu(self.fc1(x.view(-1, 16 * 5 * 5)))
        return self.fc3(functional.relu(self.fc2(x)))

    def as_sequential(self) -> nn.Sequential:
        relu, pool = nn.ReLU(), self.pool
        convolutions = (self.conv1, relu, pool, self.conv2, relu, pool, nn.Flatten())
        return nn.Sequential(*convolutions, self.fc1, relu, self.fc2, relu, self.fc3)


class Inverted(nn.Module):
    """A network that R-GAP can invert, with its layers defined backwards."""

    def __init__(self, classes: int = 5, *, bias: bool = True) -> None:
        super().__init__()
        self.fc, self.conv = nn.Linear(16 * 36, classes, bias=bias), nn.Conv2d(3, 16, 3, bias=bias)
        models.draw_weights(self, seed=3).double()

    def forward(self, x):
        x = functional.leaky_relu(self.conv(x), 0.2)
        return functional.log_softmax(self.fc(torch.flatten(x, 1)), dim=1)


class Dense(nn.Module):
    """A head that is defined before the body, and behind the body perhaps a branch."""

    def __init__(self, classes: int = 5, *, branch: bool = False, width: int = 120) -> None:
        super().__init__()
        self.branch = branch
        self.head, self.side = nn.Linear(width, classes), nn.Linear(width, width)
        self.body = nn.Linear(192, width)
        models.draw_weights(self, seed=1).double()

    def forward(self, x):
        x = functional.relu(self.body(x.view(x.size(0), -1)))
        return self.head(x + self.side(x) if self.branch else x)


def psnr(images: torch.Tensor, batch: Batch) -> float:
    images, truth = images.clamp(0, 1), batch.images.double()
    return float(metrics.psnr(images[metrics.match(images, truth)], truth).min())


def frozen(model: nn.Module, *names: str) -> nn.Module:
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return model


def as_difference(model: nn.Module, update: Update, rate: float = 0.1) -> Update:
    """The update as the difference of two sets of weights, which rounds it."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = {name: value - rate * update.gradients[name] for name, value in before.items()}
    local = LocalTraining(1, rate)
    return Update.from_state_dicts(
        model, before, after, batch_size=update.batch_size, image_shape=update.image_shape, local=local
    )
