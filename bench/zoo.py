"""The networks of the table: from a LeNet of 16 thousand parameters to a ConvNeXt of 28 million, none pretrained."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torchvision
from torch import Tensor, nn

from gilib import models

Build = Callable[[], nn.Module]
CLASSES = 10


def networks() -> dict[str, Build]:
    """What builds each of them, by name, in the order of the table: images 3 x 32 x 32, ten classes."""
    return small() | large()


def small() -> dict[str, Build]:
    """Below four million parameters, most of them made for images of this size."""
    return {
        "GroupNorm SiLU CNN": group_norm_cnn,
        "LeNet": models.lenet,
        "GRU over rows": lambda: Recurrent(nn.GRU),
        "LSTM over rows": lambda: Recurrent(nn.LSTM),
        "ResNet-20 width 8": lambda: models.resnet(width=8),
        "ConvNet": models.convnet,
        "ViT": ViT,
        "ShuffleNet V2 x0.5": lambda: pictured("shufflenet_v2_x0_5"),
        "ConvNet x2": lambda: models.convnet(widths=(64, 128, 128, 256)),
        "MLP 256": lambda: models.mlp(hidden=(256,)),
        "MLP 1024": lambda: models.mlp(hidden=(1024,)),
    }


def large() -> dict[str, Build]:
    """Torchvision's, of four million parameters and more."""
    return {
        "EfficientNet-B0": lambda: pictured("efficientnet_b0"),
        "DenseNet-121": lambda: pictured("densenet121"),
        "ResNet-18": lambda: pictured("resnet18"),
        "ResNet-18, CIFAR form": cifar_resnet18,
        "ConvNeXt-T": lambda: pictured("convnext_tiny"),
    }


def pictured(name: str) -> nn.Module:
    """A torchvision network with random weights; nothing is downloaded."""
    return torchvision.models.get_model(name, weights=None, num_classes=CLASSES)


def cifar_resnet18() -> nn.Module:
    """ResNet-18 with a 3 x 3 stem and without max pooling, as usual for images of 32 pixels."""
    model = pictured("resnet18")
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def group_norm_cnn() -> nn.Module:
    """Three strided convolutions with group normalization and SiLU, averaged over positions."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 24), (24, 28)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(4, outputs), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(28, CLASSES))


def without_cudnn() -> AbstractContextManager[None]:
    """Its recurrent layers have no derivative in eval mode; ours sees to it itself, the loop and the peer do not."""
    return torch.backends.cudnn.flags(enabled=False)


class Recurrent(nn.Module):
    """Reads an image row by row."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.rows = kind(3 * 32, 48, batch_first=True)
        self.linear = nn.Linear(48, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, 32, 32) to logits (B, 10)."""
        with without_cudnn() if images.is_cuda else nullcontext():
            states, _ = self.rows(images.transpose(1, 2).flatten(2))
        logits: Tensor = self.linear(states[:, -1])
        return logits


class ViT(nn.Module):
    """A small vision transformer: patches of 4 pixels, 96 wide, three encoder layers with GELU."""

    def __init__(self, width: int = 96, depth: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.positions = nn.Parameter(0.02 * torch.randn(64, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.linear = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, 32, 32) to logits (B, 10)."""
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.linear(self.encoder(tokens).mean(dim=1))
        return logits


def built(name: str) -> nn.Module:
    """A network in eval mode, its random weights drawn from a fixed seed without touching the global random state.

    Batch norm gets the statistics of noise images: with none, a deep network shrinks its signal to nothing, and its
    gradient does not depend on the image.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = networks()[name]()
        norms = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        for part in norms:
            part.momentum = None  # the mean of all batches
        with torch.no_grad():
            for _ in range(3 if norms else 0):
                model.train()(torch.rand(16, 3, 32, 32))
    return model.eval()
