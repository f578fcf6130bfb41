"""Randomness that comes from outside: generators with a key, and layers that draw for every sample.

PyTorch's own dropout draws from the global random state, deep inside the forward pass. The layers here get their draws
from outside, as a tensor: the client draws them once for its batch, and an attack may search for them.
"""

import copy
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class RandomLayer(nn.Module, ABC):
    """Base of layers that draw at random. Without draws, as in evaluation, such a layer is deterministic.

    ``draws`` is a buffer, empty by default; `torch.func.functional_call` replaces it under the name ``<layer>.draws``.
    A subclass checks ``self.draws.numel()`` in its ``forward``.
    """

    draws: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("draws", torch.empty(0, device="cpu"), persistent=False)

    @abstractmethod
    def sample(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw for every sample of ``inputs`` (B, ...), in float64."""

    def relax(self, numbers: Tensor) -> Tensor:
        """Real numbers of the shape of the draws as valid draws, differentiably, for an attack that searches them."""
        return numbers


def random_layers(model: nn.Module) -> dict[str, RandomLayer]:
    """The layers of a model that draw, by the name of their buffer."""
    return {f"{name}.draws": layer for name, layer in model.named_modules() if isinstance(layer, RandomLayer)}


def sample_draws(model: nn.Module, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """What the layers of a model draw for a batch of images (B, C, H, W): name of the buffer to draws.

    Empty for a model whose layers do not draw. The model stays as it is.
    """
    if not random_layers(model):
        return {}
    drawn: dict[str, Tensor] = {}
    module = copy.deepcopy(model).eval()
    for name, layer in random_layers(module).items():

        def draw(layer: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            assert isinstance(layer, RandomLayer)
            drawn[name] = layer.sample(inputs[0], generator).to(inputs[0])

        layer.register_forward_pre_hook(draw)
    with torch.no_grad():
        module(images)
    return drawn


def seeded_generator(*key: int) -> torch.Generator:
    """A CPU generator whose stream depends on the whole ``key``, for instance (seed, victim, restart)."""
    generator = torch.Generator(device="cpu")
    state = 0
    for part in key:  # a small mixing of the parts: each one reseeds, and what it draws seeds the next
        generator.manual_seed((state + part) % 2**63)
        state = int(torch.randint(2**62, (1,), generator=generator, device="cpu"))
    return generator
