"""Soteria: the columns of one layer's gradient go that say most about the image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gilib.chain import last_linear
from gilib.data import Batch
from gilib.defenses.gradient.entries import check_share, finite, largest
from gilib.federated import Defense, Mode, Update, in_single, working_copy


@dataclass(frozen=True)
class Soteria(Defense):
    """The defense that ``soteria`` returns."""

    ratio: float
    layer: str

    def __post_init__(self) -> None:
        check_share("ratio", self.ratio)

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "soteria"

    @property
    def public(self) -> Mapping[str, object]:
        """The ratio and the layer; the columns that are gone, everybody sees."""
        return {"ratio": self.ratio, "layer": self.layer}

    def withhold(self, update: Update, *, model: nn.Module, batch: Batch) -> Update:
        """The update with zeros in the columns of the layer whose features tell most."""
        name = f"{self.layer}.weight"
        scores = feature_scores(model, batch, layer=self.layer, mode=update.mode)
        withheld = largest(scores, round(self.ratio * len(scores)))
        gradients = finite(update)
        if name not in gradients:
            raise ValueError(f"the update has no gradient of {name!r}: it is frozen or held back. Name another layer.")
        left = gradients[name].masked_fill(withheld.to(gradients[name].device), 0)
        return replace(update, gradients={**gradients, name: left})


def soteria(ratio: float, *, layer: str = "linear") -> Defense:
    """Prune the weight gradient of one fully connected layer: whole columns, of the features that tell most.

    A column belongs to one entry of the layer's input r, the representation. The share ``ratio`` of the columns goes,
    those with the largest ``feature_scores``: there, a change of r moves the image that explains it furthest. All other
    gradients are sent as they are. Raises ValueError for a ratio outside [0, 1), and once it is used for a ``layer``
    that is no ``nn.Linear`` of the model.

    Known as: Soteria (defense). Needs a fully connected layer.
    Source: Sun et al. (2021), with the approximation of their code. Taught in: defenses/gradient.
    """
    return Soteria(ratio, layer)


def feature_scores(model: nn.Module, batch: Batch, *, layer: str, mode: Mode = "eval") -> Tensor:
    """``sum over samples of |r| / ||dr/dx||`` for every entry r of the input of a fully connected layer: (features,).

    The norm is over the pixels of the sample. Random layers compute without draws. Raises ValueError for a ``layer``
    that is no ``nn.Linear`` of the model, or whose input is not (B, features).

    Source: Sun et al. (2021); their code adds 0.1 to the representation and ranks the inverse. Taught in:
    defenses/gradient.
    """
    features = _representation(model, layer, mode, shape=(*batch.images.shape[1:],))
    images = batch.images.to(next(in_single(model).parameters()))
    with torch.no_grad():
        found = features(images)
    lengths = _slopes(features, images).flatten(2).norm(dim=2).T + torch.finfo(found.dtype).tiny
    return (found.abs() / lengths).sum(dim=0)


def _slopes(features: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The derivative (features, B, C, H, W) of every feature of a sample by its pixels."""

    def summed(pixels: Tensor) -> Tensor:
        return features(pixels).sum(dim=0)  # samples do not mix, so that each pixel sees its own sample's feature

    try:
        with torch.no_grad():
            return torch.func.jacrev(summed)(images)
    except (RuntimeError, NotImplementedError):  # a layer whose backward pass cannot be mapped: one pass a feature
        with torch.enable_grad():
            pixels = images.detach().requires_grad_()
            return torch.stack([torch.autograd.grad(one, pixels, retain_graph=True)[0] for one in summed(pixels)])


def _last(model: nn.Module, shape: tuple[int, ...]) -> str:
    """Words on the fully connected layer that makes the logits, where there is one."""
    try:
        return f", of which {last_linear(model, image_shape=(shape[0], shape[1], shape[2]))!r} makes the logits"
    except ValueError:
        return ""


def _representation(model: nn.Module, layer: str, mode: Mode, *, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """The input of ``layer`` as a function of the images, on a copy of the model."""
    module, seen = working_copy(in_single(model), mode=mode), {}
    dense = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    if layer not in dense:
        raise ValueError(
            f"{layer!r} is no fully connected layer of the model; it has {list(dense)}{_last(model, shape)}. "
            "Name one of them as layer=..."
        )

    def note(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen["input"] = inputs[0]

    dense[layer].register_forward_pre_hook(note)

    def features(images: Tensor) -> Tensor:
        module(images)
        if seen["input"].ndim != 2:
            raise ValueError(f"the input of {layer!r} must be (B, features); got {tuple(seen['input'].shape)}.")
        return seen["input"]

    return features
