"""PRECODE: a variational bottleneck before the classifier."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.defenses.model.places import classifier, improved_by, inserted, linear_of
from gilib.draws import RandomLayer
from gilib.federated import Defense
from gilib.models import blank_linear, draw_weights


class Bottleneck(RandomLayer):
    """The layer of ``precode``: features (B, d) to a mean and a log variance of ``latent`` numbers, a draw, and back.

    The draws are standard normal, (B, latent). Without draws the mean goes on.
    """

    def __init__(self, features: int, latent: int, *, seed: int) -> None:
        super().__init__()
        self.latent = latent
        self.encode, self.decode = blank_linear(features, 2 * latent), blank_linear(latent, features)
        draw_weights(nn.Sequential(self.encode, self.decode), seed=seed)

    def sample(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(len(inputs), self.latent, generator=generator, dtype=torch.float64, device="cpu")

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, d) to features (B, d)."""
        mean, log_variance = self.encode(features).chunk(2, dim=-1)
        code = mean + (0.5 * log_variance).exp() * self.draws if self.draws.numel() else mean
        decoded: Tensor = self.decode(code)
        return decoded


@dataclass(frozen=True)
class Precode(Defense):
    """The defense that ``precode`` returns."""

    latent: int
    seed: int

    def __post_init__(self) -> None:
        if self.latent < 1:
            raise ValueError(f"the bottleneck needs at least one latent number; got {self.latent}.")

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "precode"

    @property
    def public(self) -> Mapping[str, object]:
        """The size of the bottleneck and the seed of its first weights, which the server has; never the noise."""
        return {"latent": self.latent, "seed": self.seed}

    def improve(self, model: nn.Module) -> nn.Module:
        """The model with the bottleneck before its classifier, or before the layer that was named."""
        if improved_by(model, self):
            return model
        name = self._place(model)
        bottleneck = Bottleneck(linear_of(model, name).in_features, self.latent, seed=self.seed)
        return inserted(model, name, bottleneck, called="bottleneck", by=self)

    def _place(self, model: nn.Module) -> str:
        return classifier(model)


@dataclass(frozen=True)
class PlacedPrecode(Precode):
    """The defense that ``precode`` returns where the layer behind the bottleneck is named."""

    before: str

    @property
    def public(self) -> Mapping[str, object]:
        """The place too, which the model shows anyway."""
        return {**super().public, "before": self.before}

    def _place(self, model: nn.Module) -> str:
        return self.before


def precode(latent: int = 16, *, seed: int = 0, before: str | None = None) -> Defense:
    """Put a variational bottleneck before the layer ``name`` that makes logits: ``name.bottleneck``, ``name.layer``.

    ``z = mean + exp(log_variance / 2) * noise``, mean and log variance being linear in the features, and the features
    that go on linear in z. The noise is drawn anew for every sample and round. The paper adds the Kullback-Leibler
    divergence from a standard normal to the loss; here the loss stays as it is, because a client's loss sees only
    logits (an exercise of the chapter adds it). ``seed`` draws the first weights. ``before`` names another fully
    connected layer, as ``model.named_modules()`` does. Raises ValueError for a ``latent`` below one; when the client
    trains, where no fully connected layer is found to make the logits, or ``before`` is none.

    Known as: PRECODE, variational bottleneck (defense). Needs a network that all clients change alike.
    Source: PRECODE, Scheliga et al. (2022). Taught in: defenses/model.
    """
    return Precode(latent, seed) if before is None else PlacedPrecode(latent, seed, before)
