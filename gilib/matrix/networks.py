"""Defenses that are other networks: fewer filters, and a bottleneck whose noise a term of the loss keeps alive."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.defenses.model import precode
from gilib.federated import Update, cross_entropy
from gilib.matrix.attacks import AttackEntry, Search
from gilib.matrix.defenses import DefenseEntry
from gilib.matrix.rounds import View
from gilib.matrix.scenes import Scene
from gilib.models import blank_convolution, blank_linear, draw_weights

KL_WEIGHT = 0.1


def patches(filters: int, seed: int = 0) -> nn.Sequential:
    """A convolution of 2 x 2 pixels side by side, tanh, and the classifier: for digits of 8 x 8 pixels.

    Up to three filters its gradient has fewer independent numbers than the digit has pixels (defenses/model).
    """
    layers = nn.Sequential(
        blank_convolution(1, filters, kernel=2, stride=2, padding=0),
        nn.Tanh(),
        nn.Flatten(),
        blank_linear(16 * filters, 10),
    )
    return draw_weights(layers, seed=seed).double()


def enumerated(model: nn.Module, update: Update, *, levels: int = 17) -> Tensor:
    """The image (1, 1, 8, 8) behind one sample's update of ``patches``: division at the last layer, then counting.

    The division gives what the tanh returned; of the 17^4 patches of four pixels that exist, each place gets the one
    whose filters come nearest.
    """
    assert isinstance(model, nn.Sequential)
    convolution = model[0]
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    rows, divisor = update.gradients["3.weight"].double(), update.gradients["3.bias"].double()
    row = divisor.abs().argmax()
    features = (rows[row] / divisor[row]).reshape(convolution.out_channels, -1)
    before = features.clamp(-1 + 1e-15, 1 - 1e-15).atanh()
    steps = torch.arange(levels, dtype=torch.float64, device="cpu") / (levels - 1)
    every = torch.cartesian_prod(*[steps] * 4)
    with torch.no_grad():
        seen = every @ convolution.weight.double().flatten(1).T + convolution.bias.double()
    fits = [int((seen - place).square().sum(dim=1).argmin()) for place in before.T]
    return every[fits].reshape(4, 4, 2, 2).permute(0, 2, 1, 3).reshape(1, 1, 8, 8)


@dataclass(frozen=True)
class Narrow(DefenseEntry):
    """Other networks, with fewer filters or neurons: ``networks`` are pairs of a scene's network and another.

    The adaptive search on ``patches`` does not search: it counts what a patch of whole grey levels can be.
    """

    networks: tuple[tuple[Callable[[int], nn.Module], Callable[[int], nn.Module]], ...] = ()

    def network(self, scene: Scene) -> nn.Module:
        """The narrow network. Raises ValueError where there is none for this scene."""
        narrow = dict(self.networks)
        if scene.network not in narrow:
            raise ValueError(f"{self.name} has no narrow network for scene {scene.name!r}: add a pair to networks.")
        return narrow[scene.network](scene.seed)

    def adaptive(self, attack: AttackEntry, view: View) -> Tensor:
        """By counting, where that is possible."""
        if not self.counts(attack, view):
            return super().adaptive(attack, view)
        return torch.cat([enumerated(view.models[0], one) for one in view.sent[0]])

    def differs(self, attack: AttackEntry, view: View) -> bool:
        """Where it counts, and where a prior is added."""
        return self.counts(attack, view) or super().differs(attack, view)

    def counts(self, attack: AttackEntry, view: View) -> bool:
        """Whether the network is ``patches``, with one image an update."""
        known = isinstance(view.models[0], nn.Sequential) and "3.weight" in view.sent[0][0].gradients
        return isinstance(attack, Search) and known and view.sent[0][0].batch_size == 1


class WithDivergence(nn.Module):
    """A network with PRECODE's bottleneck that returns the divergence of its code from the normal as one more logit."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits and divergence (B, K + 1)."""
        seen: list[Tensor] = []
        encode = self.net.get_submodule("linear.bottleneck.encode")
        handle = encode.register_forward_hook(lambda _, __, output: seen.append(output))
        try:
            logits = self.net(images)
        finally:
            handle.remove()
        mean, log_variance = seen[0].chunk(2, dim=1)
        terms = mean.square() + log_variance.exp() - 1 - log_variance
        return torch.cat([logits, 0.5 * terms.sum(dim=1, keepdim=True)], dim=1)


def divergent(outputs: Tensor, targets: Tensor) -> Tensor:
    """PRECODE's loss: cross-entropy, and ``KL_WEIGHT`` times the divergence, the last of ``outputs`` (B, K + 1)."""
    return cross_entropy(outputs[:, :-1], targets[:, :-1]) + KL_WEIGHT * outputs[:, -1].mean()


@dataclass(frozen=True)
class Bottlenecked(DefenseEntry):
    """PRECODE with its Kullback-Leibler term. The loss is ``divergent``."""

    latent: int = 16

    def network(self, scene: Scene) -> nn.Module:
        """The network with the bottleneck, which returns the divergence too."""
        return WithDivergence(precode(self.latent).improve(scene.built()))

    def logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """Without the divergence."""
        return super().logits(model, images)[:, :-1]
