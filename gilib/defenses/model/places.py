"""Where an addition to a network goes: before one of its layers, or beside the whole."""

import copy
from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from gilib.chain import last_linear
from gilib.federated import Defense, Gradients


class Branched(nn.Module):
    """A ``public`` network and a ``secret`` branch from the images, whose outputs are added to the public logits."""

    def __init__(self, public: nn.Module, secret: nn.Module, *, added_by: Defense | None = None) -> None:
        super().__init__()
        self.public, self.secret, self.added_by = public, secret, added_by

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        logits: Tensor = self.public(images) + self.secret(images)
        return logits


def public_gradients(gradients: Gradients) -> Gradients:
    """The gradients of a ``Branched`` model's public network, by their names in it; without those of the branch."""
    return {name.removeprefix("public."): value for name, value in gradients.items() if name.startswith("public.")}


class _Before(nn.Sequential):
    """A new layer, and behind it under the name ``layer`` the one that it was put before."""

    def __init__(self, parts: Mapping[str, nn.Module], *, added_by: Defense) -> None:
        super().__init__(OrderedDict(parts))
        self.added_by = added_by


def inserted(model: nn.Module, name: str, addition: nn.Module, *, called: str, by: Defense) -> nn.Module:
    """A copy of the model with ``addition`` before its layer ``name``."""
    improved = copy.deepcopy(model)
    layer = layer_of(improved, name)
    parts = {called: as_in(addition, model), "layer": layer}
    improved.set_submodule(name, _Before(parts, added_by=by).train(model.training))
    return improved


def improved_by(model: nn.Module, defense: Defense) -> bool:
    """Whether this very defense has improved the model before."""
    return any(getattr(part, "added_by", None) == defense for part in model.modules())


def as_in(addition: nn.Module, model: nn.Module) -> nn.Module:
    """The addition in the dtype and on the device of the model."""
    return addition.to(next(model.parameters()))


def classifier(model: nn.Module) -> str:
    """The name of the fully connected layer whose output becomes the logits, wherever it was defined.

    Raises ValueError where there is none that can be told from the model's forward pass.
    """
    if isinstance(model, Branched):  # the classifier is public
        return f"public.{classifier(model.public)}"
    try:
        name = last_linear(model)
    except ValueError as error:
        raise ValueError(f"{error} dropout and precode take the name of a layer as before=...") from error
    if not name:
        raise ValueError("the model is a single linear layer, with nothing before it: put it into an nn.Sequential.")
    return name


def layer_of(model: nn.Module, name: str) -> nn.Module:
    """The layer of this name. Raises ValueError where there is none."""
    layers = dict(model.named_modules())
    if not name or name not in layers:
        raise ValueError(f"the model has no layer {name!r}; it has {', '.join(filter(None, layers))}.")
    return layers[name]


def linear_of(model: nn.Module, name: str) -> nn.Linear:
    """The fully connected layer of this name. Raises ValueError for another one."""
    layer = layer_of(model, name)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"expected the name of an nn.Linear; {name!r} is a {type(layer).__name__}.")
    return layer
