"""Vertical federated learning: every party holds some columns of the same people, and a network that embeds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from gilib.data import Batch, Dataset
from gilib.federated import (
    Loss,
    Update,
    as_targets,
    checked_logits,
    cross_entropy,
    reference,
    working_copy,
)

Columns = tuple[slice | Sequence[int], ...]
"""Which part of a sample a party holds, as an index for each of its dimensions: (all, top rows, left columns)."""

Gradients = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Party:
    """One who holds the ``columns`` of every sample, and a ``model`` that maps them to an embedding (B, k).

    Both are public: the server sends the model and knows which columns are whose. Only the values are private.

    Taught in: frontiers/vertical.
    """

    model: nn.Module
    columns: Columns

    def part(self, inputs: Tensor) -> Tensor:
        """The party's columns of samples (B, ...)."""
        return inputs[(slice(None), *self.columns)]


@dataclass(frozen=True, eq=False)
class VerticalUpdate:
    """What the server gets in a round: ``gradients`` of each party's model and of the ``top``, for ``indices``.

    The gradients are means over the batch. ``indices`` are those that the server was told; no sample comes twice. The
    embeddings are not in it.

    Taught in: frontiers/vertical.
    """

    indices: tuple[int, ...]
    gradients: tuple[Gradients, ...]
    top: Gradients

    def __post_init__(self) -> None:
        if len(set(self.indices)) < len(self.indices) or not self.indices or min(self.indices) < 0:
            raise ValueError(
                f"expected the indices of one or more samples, each once and not negative; got {list(self.indices)}."
            )

    def as_update(self, image_shape: tuple[int, int, int], *, loss: Loss = cross_entropy) -> Update:
        """The same round as one update of ``Vertical.model()``, for any attack on a batch."""
        gradients = {f"parties.{k}.{name}": g for k, part in enumerate(self.gradients) for name, g in part.items()}
        gradients |= {f"top.{name}": g for name, g in self.top.items()}
        return Update(gradients, batch_size=len(self.indices), image_shape=image_shape, loss=loss)


class Joined(nn.Module):
    """All parties and the top as one model of whole samples."""

    def __init__(self, parties: Sequence[Party], top: nn.Module) -> None:
        super().__init__()
        self.parties, self.top = nn.ModuleList([party.model for party in parties]), top
        self._parts = [party.part for party in parties]

    def forward(self, inputs: Tensor) -> Tensor:
        """Samples (B, ...) to logits (B, K)."""
        pairs = zip(self.parties, self._parts, strict=True)
        logits: Tensor = self.top(torch.cat([model(part(inputs)) for model, part in pairs], dim=1))
        return logits


@dataclass(frozen=True, eq=False)
class Vertical:
    """A federation by columns: the ``parties``' embeddings, side by side, go through the ``top`` into the ``loss``.

    In a round the parties compute the embeddings of the samples that the server names, exchange what the loss takes,
    and send their gradients, so that the server sees gradients and indices and no embedding. Everything here is public.

    Source: the setting of Jin et al. (2021), as their public code has it. Taught in: frontiers/vertical.
    """

    parties: Sequence[Party]
    top: nn.Module
    loss: Loss = field(default=cross_entropy, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parties", tuple(self.parties))
        if not self.parties:
            raise ValueError("expected at least one party, got none.")

    def model(self) -> Joined:
        """The federation as one model of whole samples, sharing the weights of the parties."""
        return Joined(self.parties, self.top)

    def round(self, data: Batch | Dataset, indices: Sequence[int] | Tensor) -> VerticalUpdate:
        """One round on the samples at ``indices`` of ``data``: the gradients that leave the parties.

        Layers are in eval mode. The models are copied at the first round. Raises ValueError for an index that comes
        twice, for models that do not fit the data or each other, and for labels that do not fit the logits; IndexError
        for an index outside the data.
        """
        chosen = [int(i) for i in torch.as_tensor(indices).reshape(-1).tolist()]
        if chosen and not -1 < min(chosen) <= max(chosen) < len(data):
            raise IndexError(f"expected indices from 0 to {len(data) - 1}, got {chosen}.")
        empty = VerticalUpdate(tuple(chosen), (), {})
        model, parameters = self.working
        images, labels = data.images[chosen].to(reference(model)), data.labels[chosen]
        with torch.enable_grad():
            logits = checked_logits(lambda _, inputs: model(inputs), {}, images)
            value = self.loss(logits, as_targets(labels, logits.shape[1], dtype=logits.dtype).to(logits.device))
            found = torch.autograd.grad(value, [*parameters.values()], materialize_grads=True)
        gradients = dict(zip(parameters, found, strict=True))
        parts = [_under(gradients, f"parties.{k}.") for k in range(len(self.parties))]
        return replace(empty, gradients=tuple(parts), top=_under(gradients, "top."))

    @cached_property
    def working(self) -> tuple[Joined, dict[str, Tensor]]:
        """A copy of all models in eval mode, made once, and its trainable parameters."""
        model = working_copy(self.model(), mode="eval")
        assert isinstance(model, Joined)
        return model, _trainable(model)

    def trained(self, update: VerticalUpdate, *, learning_rate: float) -> "Vertical":
        """The federation after one step of gradient descent on what was sent, in eval mode; this one stays as it is."""
        working, _ = self.working
        models = zip(self.parties, working.parties, update.gradients, strict=True)
        parties = [replace(party, model=_stepped(model, g, learning_rate)) for party, model, g in models]
        moved = replace(self, parties=parties, top=_stepped(working.top, update.top, learning_rate))
        joined = moved.model()
        moved.__dict__["working"] = joined, _trainable(joined)  # its models are copies that nobody else has
        return moved

    def places(self, shape: Sequence[int]) -> list[Tensor]:
        """Where each party's columns stand in a flat sample of ``shape``, with the shape of its part.

        Raises ValueError where two parties hold a column, or nobody does.
        """
        every = torch.arange(torch.Size(shape).numel(), device="cpu").reshape(1, *shape)
        places = [party.part(every)[0] for party in self.parties]
        held = torch.bincount(torch.cat([one.flatten() for one in places]), minlength=every.numel())
        if (held != 1).any():
            raise ValueError(
                f"expected each of the {every.numel()} columns of a sample {tuple(shape)} with one party; "
                f"{int((held > 1).sum())} are with several and {int((held == 0).sum())} with nobody."
            )
        return places

    def joined(self, parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """Whole samples ``(N, *shape)`` from the parts that the parties hold, each (N, ...)."""
        places = self.places(shape)
        rows = {len(part) for part in parts}
        if len(parts) != len(places) or len(rows) != 1:
            raise ValueError(
                f"expected {len(places)} parts with equally many rows, one a party; got rows "
                f"{[len(part) for part in parts]}. Align the parties' samples first."
            )
        whole = parts[0].new_zeros(rows.pop(), torch.Size(shape).numel())
        for place, part in zip(places, parts, strict=True):
            whole[:, place.flatten()] = part.flatten(1)
        return whole.reshape(-1, *shape)


def quadrants(height: int, width: int) -> list[Columns]:
    """The columns of four parties who hold a quarter of an image (C, height, width) each, row by row.

    Source: Jin et al. (2021), whose public code divides images like this. Taught in: frontiers/vertical.
    """
    rows = slice(0, height // 2), slice(height // 2, height)
    columns = slice(0, width // 2), slice(width // 2, width)
    return [(slice(None), row, column) for row in rows for column in columns]


def _under(gradients: Gradients, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in gradients.items() if name.startswith(prefix)}


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _stepped(model: nn.Module, gradients: Gradients, rate: float) -> nn.Module:
    """A copy of the model with other parameters; everything else is shared, so that a step costs little."""
    stepped = _twin(model, {})
    for name, gradient in gradients.items():
        place, _, own = name.rpartition(".")
        layer = stepped.get_submodule(place)
        old = layer._parameters[own]
        assert old is not None
        layer._parameters[own] = nn.Parameter(old.detach() - rate * gradient)
    return stepped


def _twin(module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
    """A module with tables of parameters and layers of its own, which hold the same parameters."""
    if id(module) not in known:
        twin = known[id(module)] = module.__class__.__new__(module.__class__)
        twin.__dict__.update(module.__dict__)
        twin.__dict__["_parameters"] = dict(module._parameters)
        layers = {name: part if part is None else _twin(part, known) for name, part in module._modules.items()}
        twin.__dict__["_modules"] = layers
    return known[id(module)]
