"""Other people's networks: the client trains them, and the attack agrees with the client at the truth.

For every architecture: the objective at the client's own image is below a millionth of that at grey, a short search
nearby lowers it, and neither the model nor a global random state changes.
"""

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from victims import nothing_changes, random_batch

from gilib import models
from gilib.federated import Client
from gilib.iteration import inverting_gradients, lbfgs, matching

tv = torchvision.models


class Mixed(nn.Module):
    """Patches of the image, mixed by something, averaged, classified."""

    def __init__(self, mixer: nn.Module, width: int = 16) -> None:
        super().__init__()
        self.patch, self.mixer, self.head = nn.Conv2d(3, width, 8, 8), mixer, nn.Linear(width, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.mixer(self.patch(images).flatten(2).transpose(1, 2)).mean(1))


class Attention(nn.Module):
    """Self-attention: the module with or without its weights, or the fused function."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.parts = kind, nn.Linear(16, 48)
        self.module = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        if self.kind == "function":
            q, k, v = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in self.parts(tokens).chunk(3, -1))
            return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.module(tokens, tokens, tokens, need_weights=self.kind == "weights")[0]


class Recurrent(nn.Module):
    """A recurrent layer over the rows of the image."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer, self.head = kind(96, 12, batch_first=True), nn.Linear(12, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layer(images.permute(0, 2, 1, 3).flatten(2))[0][:, -1])


class Written(nn.Module):
    """A forward pass that looks at values, or writes into a fresh tensor, or returns more than a tensor."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.body, self.head = what, nn.Conv2d(3, 8, 4, 4), nn.Linear(512, 5)

    def forward(self, images: Tensor) -> object:
        features = torch.tanh(self.body(images)).flatten(1)
        if self.what == "branch" and features.mean() > 10:
            features = features / 2
        if self.what == "item":
            features = features * (1 + 0 * features.detach().norm().item())
        if self.what == "write":
            fresh = torch.zeros_like(features)
            fresh[:, :256] = features[:, :256]
            features = fresh
        logits = self.head(features)
        return {"logits": logits} if self.what == "dictionary" else logits


class HeadFirst(nn.Module):
    """Defined in another order than it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(64, 5), nn.Linear(3072, 64)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.body(images.flatten(1))))


class Adapted(nn.Module):
    """A frozen encoder block with a trained low-rank adapter beside it, and a trained head."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).requires_grad_(False)
        self.down, self.up = nn.Linear(16, 4, bias=False), nn.Linear(4, 16, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.block(tokens) + self.up(self.down(tokens))


def conv(*behind: nn.Module, channels: int = 8) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), *behind, nn.Flatten(), nn.Linear(channels * 256, 5))


def weight_normed() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(3072, 16)), nn.Sigmoid(), nn.Linear(16, 5))


ZOO: dict[str, Callable[[], nn.Module]] = {
    "LeNet": lambda: models.lenet(5),
    "ConvNet": lambda: models.convnet(5, widths=(8, 16)),
    "ResNet-20": lambda: models.resnet(5, width=4, blocks=1),
    "torchvision ResNet-18": lambda: tv.resnet18(num_classes=5),
    "MobileNetV2": lambda: tv.mobilenet_v2(num_classes=5),
    "MobileNetV3": lambda: tv.mobilenet_v3_small(num_classes=5),
    "ShuffleNet": lambda: tv.shufflenet_v2_x0_5(num_classes=5),
    "DenseNet": lambda: tv.DenseNet(8, (2, 2), 16, num_classes=5),
    "RegNet": lambda: tv.regnet_y_400mf(num_classes=5),
    "ConvNeXt": lambda: tv.ConvNeXt([tv.convnext.CNBlockConfig(16, None, 2)], num_classes=5),
    "vision transformer": lambda: tv.VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=5),
    "Swin": lambda: tv.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], num_classes=5),
    "encoder": lambda: Mixed(nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)),
    "attention with weights": lambda: Mixed(Attention("weights")),
    "attention without weights": lambda: Mixed(Attention("fused")),
    "attention as a function": lambda: Mixed(Attention("function")),
    "adapter on a frozen block": lambda: Mixed(Adapted()),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "GRU": lambda: Recurrent(nn.GRU),
    "RNN": lambda: Recurrent(nn.RNN),
    "control flow": lambda: Written("branch"),
    "item": lambda: Written("item"),
    "write into a fresh tensor": lambda: Written("write"),
    "dictionary of logits": lambda: Written("dictionary"),
    "head first": HeadFirst,
    "GroupNorm and SiLU": lambda: conv(nn.GroupNorm(2, 8), nn.SiLU()),
    "InstanceNorm and GELU": lambda: conv(nn.InstanceNorm2d(8), nn.GELU()),
    "Hardsigmoid": lambda: conv(nn.Hardsigmoid()),
    "Hardswish in place": lambda: conv(nn.Hardswish(inplace=True)),
    "PReLU and max-pooling": lambda: conv(nn.PReLU(), nn.MaxPool2d(3, 1, 1)),
    "older weight_norm": weight_normed,
    "spectral_norm": lambda: conv(nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 3, 1, 1))),
    "dropout, asleep": lambda: conv(nn.ReLU(), nn.Dropout(0.5)),
}

BATCH = random_batch(1, size=32)


NEAR = (BATCH.images + 0.02 * (random_batch(1, size=32, seed=1).images - 0.5)).clamp(0, 1)


class At:
    """An initialization at given images."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return self.images.expand(shape).clone()


def objective(model: nn.Module, update, images: Tensor, *, iterations: int = 1) -> Tensor:
    attack = dataclasses.replace(
        inverting_gradients(iterations=iterations),
        initialization=At(images),
        priors=(),
        matching=matching.cosine(),
        optimizer=lbfgs.lbfgs(),
    )
    return attack.reconstruct(model, update).losses


def built(name: str) -> nn.Module:
    state = torch.get_rng_state()
    torch.manual_seed(0)  # layers of torch draw their first weights from the global state
    model = ZOO[name]().double()
    for layer in model.modules():  # as if trained for a while: with the first ones activations of deep nets die out
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    with torch.no_grad():
        model.train()(torch.rand(16, 3, 32, 32, dtype=torch.float64))
    model.eval()
    torch.set_rng_state(state)
    return model


@pytest.mark.parametrize("name", ZOO)
def test_an_attack_agrees_with_the_client_and_makes_progress(name, capfd):
    model = built(name)
    with nothing_changes(model, capfd):
        update = Client(model, share_labels=True).update(BATCH)
        truth = objective(model, update, BATCH.images)[0]
        grey = objective(model, update, torch.full_like(BATCH.images, 0.5))[0]
        search = objective(model, update, NEAR, iterations=8)
    assert abs(truth) < 1e-6 * grey
    assert search[1:].min() < search[0]


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", "attention without weights", "encoder", "vision transformer"])
def test_single_precision(name):
    model = built(name).float()
    update = Client(model, share_labels=True).update(BATCH)
    grey = objective(model, update, torch.full_like(BATCH.images, 0.5))[0]
    assert abs(objective(model, update, BATCH.images)[0]) < 1e-3 * grey


@pytest.mark.parametrize("name", ["GRU", "control flow", "encoder", "Hardsigmoid", "write into a fresh tensor"])
def test_a_stack_of_such_networks_gives_what_one_gives(name):
    model = built(name)
    updates = [Client(model, share_labels=True).update(random_batch(1, size=32, seed=seed)) for seed in range(3)]
    attack = inverting_gradients(iterations=3)
    together = attack.reconstruct_many(model, updates)
    alone = [attack.reconstruct_many(model, updates[: row + 1])[row] for row in range(3)]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.losses, other.losses, rtol=1e-9, atol=1e-12)
