"""A secret branch: layers that the client keeps, whose outputs are added to the public logits."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from gilib.defenses.model.places import Branched, as_in, classifier, improved_by, linear_of
from gilib.draws import RandomLayer
from gilib.federated import Defense, Update
from gilib.models import blank_linear, draw_weights


class Unknown(RandomLayer):
    """What the server puts in place of a secret branch: numbers (B, K) that it does not know, in (-bound, bound).

    Without draws it adds nothing, which is what an attacker assumes who ignores the branch.
    """

    def __init__(self, classes: int, bound: float) -> None:
        super().__init__()
        self.classes, self.bound = classes, bound

    def sample(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """A guess: uniform in the range."""
        uniform = torch.rand(len(inputs), self.classes, generator=generator, dtype=torch.float64, device="cpu")
        return self.bound * (2 * uniform - 1)

    def relax(self, numbers: Tensor) -> Tensor:
        """Numbers within the range, by the hyperbolic tangent."""
        return self.bound * numbers.tanh()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to what is added to the logits."""
        return self.draws if self.draws.numel() else images.new_zeros(len(images), self.classes)


class Polarized(nn.Module):
    """The layers that the client keeps: two linear ones from the pixels to numbers in (-strength, strength)."""

    def __init__(self, pixels: int, classes: int, *, hidden: int, strength: float, seed: int) -> None:
        super().__init__()
        first, last = blank_linear(pixels, hidden), blank_linear(hidden, classes)
        self.layers = nn.Sequential(nn.Flatten(), first, nn.Tanh(), last)
        draw_weights(self.layers, seed=seed, bound=1.0)
        self.strength = strength

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to what is added to the logits (B, K)."""
        added: Tensor = self.strength * self.layers(images).tanh()
        return added


@dataclass(frozen=True)
class SecretBranch(Defense):
    """The defense that ``secret_branch`` returns."""

    pixels: int
    hidden: int
    strength: float
    seed: int = field(repr=False)
    keeps_sensitivity = True  # it leaves out the same entries whatever the data

    def __post_init__(self) -> None:
        if min(self.pixels, self.hidden) < 1 or not 0 < self.strength < math.inf:
            raise ValueError(
                "pixels and hidden are at least 1 and strength is positive and finite; "
                f"got {self.pixels}, {self.hidden} and {self.strength}."
            )

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "secret_branch"

    @property
    def public(self) -> Mapping[str, object]:
        """The strength, which bounds what is added to a logit; never the weights or their seed."""
        return {"strength": self.strength}

    def improve(self, model: nn.Module) -> nn.Module:
        """The model beside the branch."""
        if improved_by(model, self):
            return model
        if any(isinstance(part, Branched) for part in model.modules()):
            raise ValueError(
                "the model has a secret branch of another client already; give secret_branch a model without."
            )
        classes = linear_of(model, classifier(model)).out_features
        secret = Polarized(self.pixels, classes, hidden=self.hidden, strength=self.strength, seed=self.seed)
        return Branched(copy.deepcopy(model), as_in(secret, model), added_by=self).train(model.training)

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """The update without the gradients of the branch."""
        kept = {name: value for name, value in update.gradients.items() if not name.startswith("secret.")}
        return replace(update, gradients=kept)


def secret_branch(pixels: int, *, hidden: int = 32, strength: float = 4.0, seed: int = 0) -> Defense:
    """Add to the logits what two linear layers make of the image, layers that only the client has.

    For images of ``pixels`` numbers (C * H * W). Each logit changes by a number in (-``strength``, ``strength``),
    mostly near one of the ends. The improved model is a ``Branched``: its ``public`` part is the client's model, its
    ``secret`` part comes from ``seed``, which the client must keep, and which nobody may guess: 0 is for experiments.
    Gradients of the secret part never leave, so ``federated.fit`` trains the public part only; a client that is alone
    trains both, as ``federated.train`` does with the improved model. Of that model the server has the ``server_view``.
    Raises ValueError for sizes that are not positive; when the client trains, for a model whose logits come from no
    fully connected layer, or with another client's branch.

    Known as: secret polarization network, SPN (defense). Needs layers that the server never sees.
    Source: our reading of the secret polarization network of Fan et al. (2020), of which only the idea is kept: a
    private part beside the public network that polarizes its outputs. Taught in: defenses/model.
    """
    return SecretBranch(pixels, hidden, strength, seed)


def server_view(model: nn.Module) -> Branched:
    """What the server has of a ``Branched`` model: the public part, and an ``Unknown`` in place of the secret one.

    Parameters keep their names, so that the client's updates fit. Raises ValueError for another model.
    """
    if not isinstance(model, Branched) or not isinstance(model.secret, Polarized):
        raise ValueError(
            f"expected a model that secret_branch improved, got {type(model).__name__}: pass client.improved()."
        )
    last = model.secret.layers[-1]
    assert isinstance(last, nn.Linear)
    unknown = Unknown(last.out_features, model.secret.strength)
    return Branched(copy.deepcopy(model.public), unknown).train(model.training)
