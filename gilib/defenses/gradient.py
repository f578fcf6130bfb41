"""Gradients that say less: pruned, sent in parts, quantized, reduced to signs, or without a layer's telling columns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from gilib.data import Batch
from gilib.federated import Defense, Gradients, Mode, Update, working_copy

Scope = Literal["tensor", "global"]


@dataclass(frozen=True)
class Pruning(Defense):
    """The defense that ``pruning`` returns."""

    ratio: float
    scope: Scope

    def __post_init__(self) -> None:
        _check_share("ratio", self.ratio)
        _check_scope(self.scope)

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "pruning"

    @property
    def public(self) -> Mapping[str, object]:
        """The ratio and the scope; which entries were pruned, everybody sees."""
        return {"ratio": self.ratio, "scope": self.scope}

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """The update with zeros for its smallest entries."""
        return replace(update, gradients=_keep_largest(_finite(update), self.ratio, self.scope))


def pruning(ratio: float, *, scope: Scope = "tensor") -> Defense:
    """Replace the share ``ratio`` of the entries, those of smallest magnitude, by zeros; leave the others as they are.

    ``scope="tensor"`` prunes every tensor by itself, ``"global"`` all of them as one long vector. ``round(ratio * n)``
    of n entries go, of equal ones the later, and at least one stays. Raises ValueError for a ratio outside [0, 1), and
    for gradients that are not finite.

    Source: Zhu et al. (2019), section 5. Taught in: defenses/gradient.
    """
    return Pruning(ratio, scope)


@dataclass
class TopK(Defense):
    """The defense that ``top_k`` returns. It remembers: one client, one object."""

    kept: float
    scope: Scope
    feedback: bool
    memory: Gradients = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_share("1 - kept", 1 - self.kept)
        _check_scope(self.scope)

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "top_k"

    @property
    def public(self) -> Mapping[str, object]:
        """The settings. The memory never leaves the client."""
        return {"kept": self.kept, "scope": self.scope, "feedback": self.feedback}

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """The largest entries of the update and the memory together; the memory becomes what is left."""
        total = dict(_finite(update))
        if self.feedback and self.memory:
            shapes = {name: value.shape for name, value in total.items()}
            if shapes != {name: value.shape for name, value in self.memory.items()}:
                raise ValueError(
                    "the memory of top_k belongs to an update with other parameters than the one that came. "
                    "Give every client and every model a top_k() of its own."
                )
            total = {name: value + self.memory[name] for name, value in total.items()}
        sent = _keep_largest(total, 1 - self.kept, self.scope)
        if self.feedback:
            self.memory = {name: value - sent[name] for name, value in total.items()}
        return replace(update, gradients=sent)


def top_k(kept: float, *, scope: Scope = "tensor", feedback: bool = True) -> TopK:
    """Send only the share ``kept`` of the entries, and add what was not sent to the next update (error feedback).

    What is returned has a state: ``memory``, which is empty before the first round and then holds what the client still
    owes, so that all that was sent and the memory add up to all gradients. A client needs an object of its own, and a
    second training a new one. With ``feedback=False`` nothing is remembered, and this is ``pruning(1 - kept)``. Raises
    ValueError for a share outside (0, 1], for gradients that are not finite, and for a memory of another model.

    Source: Stich et al. (2018), algorithm 1; the idea of Seide et al. (2014). Taught in: defenses/gradient.
    """
    return TopK(kept, scope, feedback)


@dataclass(frozen=True)
class Quantization(Defense):
    """The defense that ``quantization`` returns."""

    bits: int
    stochastic: bool

    def __post_init__(self) -> None:
        if not (isinstance(self.bits, int) and 1 <= self.bits <= 16):
            raise ValueError(f"bits must be a whole number from 1 to 16; got {self.bits}.")

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "quantization"

    @property
    def public(self) -> Mapping[str, object]:
        """How it rounds. The step of a tensor follows from its largest entry, which is sent as it is."""
        return {"bits": self.bits, "stochastic": self.stochastic}

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """Every entry on its tensor's grid."""
        return replace(update, gradients={n: self._rounded(v, generator) for n, v in _finite(update).items()})

    def _rounded(self, value: Tensor, generator: torch.Generator) -> Tensor:
        """One tensor, rounded to the nearest level or, with luck proportional to the distance, to a neighbour."""
        peak, top = value.abs().max(), 2**self.bits - 1
        if peak == 0:
            return value
        codes = (value / peak + 1) / 2 * top
        if self.stochastic:
            draw = torch.rand(value.shape, generator=generator, dtype=torch.float64).to(value)
            codes = (codes + draw).floor().clamp(0, top)
        return (2 * codes.round() / top - 1) * peak


def quantization(bits: int, *, stochastic: bool = False) -> Defense:
    """Round every entry to one of ``2**bits`` equidistant levels between plus and minus its tensor's largest magnitude.

    The step is ``2 max|g| / (2**bits - 1)``. The error is at most half a step; ``stochastic=True`` rounds up or down at
    random, such that the mean is right, with an error below one step. Raises ValueError for bits outside 1 to 16, and
    for gradients that are not finite.

    Source: the stochastic variant is that of Alistarh et al. (2017), with another scale. Taught in: defenses/gradient.
    """
    return Quantization(bits, stochastic)


@dataclass(frozen=True)
class SignCompression(Defense):
    """The defense that ``sign_compression`` returns."""

    scaled: bool

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "sign_compression"

    @property
    def public(self) -> Mapping[str, object]:
        """Whether the signs carry a scale."""
        return {"scaled": self.scaled}

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """The signs, times each tensor's mean magnitude."""
        scale: Callable[[Tensor], Tensor] = (lambda v: v.abs().mean()) if self.scaled else (lambda v: v.new_ones(()))
        return replace(update, gradients={n: scale(v) * v.sign() for n, v in _finite(update).items()})


def sign_compression(*, scaled: bool = True) -> Defense:
    """Send the sign of every entry, times the mean magnitude of its tensor unless ``scaled=False``.

    An entry that is exactly zero stays zero. Raises ValueError for gradients that are not finite.

    Source: signSGD, Bernstein et al. (2018), and with the scale Karimireddy et al. (2019). Taught in:
    defenses/gradient.
    """
    return SignCompression(scaled)


@dataclass(frozen=True)
class Soteria(Defense):
    """The defense that ``soteria`` returns."""

    ratio: float
    layer: str

    def __post_init__(self) -> None:
        _check_share("ratio", self.ratio)

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
        withheld = _largest(scores, round(self.ratio * len(scores)))
        left = _finite(update)[name].masked_fill(withheld, 0)
        return replace(update, gradients={**update.gradients, name: left})


def soteria(ratio: float, *, layer: str = "linear") -> Defense:
    """Prune the weight gradient of one fully connected layer: whole columns, of the features that tell most.

    A column belongs to one entry of the layer's input r, the representation. The share ``ratio`` of the columns goes,
    those with the largest ``feature_scores``: there, a change of r moves the image that explains it furthest. All other
    gradients are sent as they are. Raises ValueError for a ratio outside [0, 1), and once it is used for a ``layer``
    that is no ``nn.Linear`` of the model.

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
    features = _representation(model, layer, mode)
    images = batch.images.to(next(model.parameters()))
    with torch.no_grad():
        found = features(images)
        slopes = torch.func.jacrev(lambda x: features(x).sum(dim=0))(images)  # (features, B, C, H, W)
    lengths = slopes.flatten(2).norm(dim=2).T + torch.finfo(found.dtype).tiny
    return (found.abs() / lengths).sum(dim=0)


def _representation(model: nn.Module, layer: str, mode: Mode) -> Callable[[Tensor], Tensor]:
    """The input of ``layer`` as a function of the images, on a copy of the model."""
    module, seen = working_copy(model, mode=mode), {}
    dense = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    if layer not in dense:
        raise ValueError(f"{layer!r} is no fully connected layer of the model; it has {list(dense)}.")

    def note(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen["input"] = inputs[0]

    dense[layer].register_forward_pre_hook(note)

    def features(images: Tensor) -> Tensor:
        module(images)
        if seen["input"].ndim != 2:
            raise ValueError(f"the input of {layer!r} must be (B, features); got {tuple(seen['input'].shape)}.")
        return seen["input"]

    return features


def _keep_largest(gradients: Gradients, ratio: float, scope: Scope) -> Gradients:
    """The gradients with zeros for the share ``ratio`` of their entries of smallest magnitude."""
    sizes = [value.numel() for value in gradients.values()]
    joined = torch.cat([value.flatten() for value in gradients.values()])
    groups = joined.split(sizes) if scope == "tensor" else (joined,)
    masks = torch.cat([_largest(one, max(1, len(one) - round(ratio * len(one)))) for one in groups]).split(sizes)
    return {
        name: value.masked_fill(~mask.reshape(value.shape), 0)
        for (name, value), mask in zip(gradients.items(), masks, strict=True)
    }


def _largest(values: Tensor, count: int) -> Tensor:
    """A mask of the ``count`` entries of ``values`` (N,) with the largest magnitude, of equal ones the earlier."""
    order = values.abs().argsort(descending=True, stable=True)
    return torch.zeros_like(values, dtype=torch.bool).index_fill(0, order[:count], True)


def _finite(update: Update) -> Gradients:
    """The update's gradients. Raises ValueError where one is not finite: it has no place in an order of magnitudes."""
    for name, value in update.gradients.items():
        if not value.isfinite().all():
            raise ValueError(
                f"expected finite gradients, got NaN or infinity in {name!r}. Check images and learning rate."
            )
    return update.gradients


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1; got {value}.")


def _check_scope(scope: str) -> None:
    if scope not in ("tensor", "global"):
        raise ValueError(f"scope must be 'tensor' or 'global'; got {scope!r}.")
