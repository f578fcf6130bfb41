"""Model improvement: the client trains a network that gives less away, with layers that draw, or layers it keeps.

Dropout and a variational bottleneck put random numbers between the image and the gradient; a secret branch changes the
logits by something that the server does not have; a narrow network has fewer equations than the image has pixels.
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from gilib.draws import RandomLayer
from gilib.federated import Defense, Update
from gilib.models import blank_linear, draw_weights

__all__ = [
    "Bottleneck",
    "Branched",
    "Dropout",
    "Dropped",
    "Polarized",
    "Precode",
    "SecretBranch",
    "Unknown",
    "dropout",
    "precode",
    "secret_branch",
    "server_view",
    "widest_safe",
]


class Dropped(RandomLayer):
    """The layer of ``dropout``: inputs times a mask of zeros and ones, divided by ``1 - p`` so that the mean stays.

    The draws are the mask, of the shape of the inputs (B, ...). Without draws the inputs pass unchanged.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def sample(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """A mask in which every entry is 0 with probability ``p`` and 1 otherwise."""
        return (torch.rand(inputs.shape, generator=generator, dtype=torch.float64) >= self.p).double()

    def relax(self, numbers: Tensor) -> Tensor:
        """A soft mask in (0, 1), by the logistic function."""
        return numbers.sigmoid()

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, ...) to outputs of the same shape."""
        return inputs * self.draws / (1 - self.p) if self.draws.numel() else inputs


@dataclass(frozen=True)
class Dropout(Defense):
    """The defense that ``dropout`` returns."""

    p: float
    before: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.p < 1:
            raise ValueError(f"p is the share of features that is dropped, at least 0 and below 1; got {self.p}.")

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "dropout"

    @property
    def public(self) -> Mapping[str, object]:
        """The share and the places, which the model shows anyway; never the masks."""
        return {"p": self.p, "before": self.before}

    def improve(self, model: nn.Module) -> nn.Module:
        """The model with a layer of dropout before each place."""
        if _improved(model, self):
            return model
        for name in self.before or (_last_linear(model),):
            model = _insert(model, name, Dropped(self.p), called="dropout", by=self)
        return model


def dropout(p: float = 0.5, *, before: Sequence[str] = ()) -> Defense:
    """Drop each feature with probability ``p``, drawn anew for every sample and round, before the last linear layer.

    ``before`` names other layers, as ``model.named_modules()`` does. A layer ``name`` moves to ``name.layer``, behind
    ``name.dropout``. Raises ValueError for ``p`` outside [0, 1); for a model without the layer when the client trains.

    Source: Zheng (2021) for the place before the classifier. Taught in: defenses/model.
    """
    return Dropout(p, tuple(before))


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
        return torch.randn(len(inputs), self.latent, generator=generator, dtype=torch.float64)

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
        """The model with the bottleneck before its last linear layer."""
        if _improved(model, self):
            return model
        name = _last_linear(model)
        bottleneck = Bottleneck(_linear(model, name).in_features, self.latent, seed=self.seed)
        return _insert(model, name, bottleneck, called="bottleneck", by=self)


def precode(latent: int = 16, *, seed: int = 0) -> Defense:
    """Put a variational bottleneck before the last linear layer ``name``: ``name.bottleneck``, then ``name.layer``.

    ``z = mean + exp(log_variance / 2) * noise``, mean and log variance being linear in the features, and the features
    that go on linear in z. The noise is drawn anew for every sample and round. The paper adds the Kullback-Leibler
    divergence from a standard normal to the loss; here the loss stays as it is, because a client's loss sees only
    logits (an exercise of the chapter adds it). ``seed`` draws the first weights. Raises ValueError for a ``latent``
    below one; for a model without a linear layer when the client trains.

    Source: PRECODE, Scheliga et al. (2022). Taught in: defenses/model.
    """
    return Precode(latent, seed)


class Unknown(RandomLayer):
    """What the server puts in place of a secret branch: numbers (B, K) that it does not know, in (-bound, bound).

    Without draws it adds nothing, which is what an attacker assumes who ignores the branch.
    """

    def __init__(self, classes: int, bound: float) -> None:
        super().__init__()
        self.classes, self.bound = classes, bound

    def sample(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """A guess: uniform in the range."""
        uniform = torch.rand(len(inputs), self.classes, generator=generator, dtype=torch.float64)
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


class Branched(nn.Module):
    """A ``public`` network and a ``secret`` branch from the images, whose outputs are added to the public logits."""

    def __init__(self, public: nn.Module, secret: nn.Module, *, added_by: Defense | None = None) -> None:
        super().__init__()
        self.public, self.secret, self.added_by = public, secret, added_by

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        logits: Tensor = self.public(images) + self.secret(images)
        return logits


@dataclass(frozen=True)
class SecretBranch(Defense):
    """The defense that ``secret_branch`` returns."""

    pixels: int
    hidden: int
    strength: float
    seed: int = field(repr=False)

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
        if _improved(model, self):
            return model
        if any(isinstance(part, Branched) for part in model.modules()):
            raise ValueError(
                "the model has a secret branch of another client already; give secret_branch a model without."
            )
        classes = _linear(model, _last_linear(model)).out_features
        secret = Polarized(self.pixels, classes, hidden=self.hidden, strength=self.strength, seed=self.seed)
        return Branched(copy.deepcopy(model), _like(secret, model), added_by=self).train(model.training)

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
    Raises ValueError for sizes that are not positive; when the client trains, for a model without a linear layer or
    with another client's branch.

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


def widest_safe(build: Callable[[int], nn.Module], widths: Sequence[int], *, safe: Callable[[nn.Module], bool]) -> int:
    """The largest of ``widths`` whose network ``build(width)`` is ``safe``, whatever that is to mean.

    A prediction such as ``rank_analysis(net, shape).predicts_leak is False`` makes it fewer filters by rank analysis.
    Raises ValueError if no width is safe.

    Source: the idea of Zhu & Blaschko (2021), who count equations; for the number of parameters, Geiping et al. (2020).
    Taught in: defenses/model.
    """
    for width in sorted(widths, reverse=True):
        if safe(build(width)):
            return width
    raise ValueError(f"no network is safe at a width of {sorted(widths)}: try smaller widths, or another network.")


class _Before(nn.Sequential):
    """A new layer, and behind it under the name ``layer`` the one that it was put before."""

    def __init__(self, parts: Mapping[str, nn.Module], *, added_by: Defense) -> None:
        super().__init__(OrderedDict(parts))
        self.added_by = added_by


def _insert(model: nn.Module, name: str, addition: nn.Module, *, called: str, by: Defense) -> nn.Module:
    """A copy of the model with ``addition`` before its layer ``name``."""
    improved = copy.deepcopy(model)
    layer = _layer(improved, name)
    parts = {called: _like(addition, model), "layer": layer}
    improved.set_submodule(name, _Before(parts, added_by=by).train(model.training))
    return improved


def _improved(model: nn.Module, defense: Defense) -> bool:
    """Whether this very defense has improved the model before."""
    return any(getattr(part, "added_by", None) == defense for part in model.modules())


def _like(addition: nn.Module, model: nn.Module) -> nn.Module:
    """The addition in the dtype and on the device of the model."""
    return addition.to(next(model.parameters()))


def _last_linear(model: nn.Module) -> str:
    """The name of the last linear layer, the classifier."""
    if isinstance(model, Branched):  # the classifier is public
        return f"public.{_last_linear(model.public)}"
    names = [name for name, part in model.named_modules() if isinstance(part, nn.Linear) and name]
    if not names:
        raise ValueError(
            "the model has no linear layer inside it to be its classifier; use one that ends in nn.Linear."
        )
    return names[-1]


def _layer(model: nn.Module, name: str) -> nn.Module:
    layers = dict(model.named_modules())
    if not name or name not in layers:
        raise ValueError(f"the model has no layer {name!r}; it has {', '.join(filter(None, layers))}.")
    return layers[name]


def _linear(model: nn.Module, name: str) -> nn.Linear:
    layer = _layer(model, name)
    assert isinstance(layer, nn.Linear)
    return layer
