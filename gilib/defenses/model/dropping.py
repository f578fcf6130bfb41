"""Dropout as a defense: a random mask, drawn anew for every sample and round, before one or several layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.defenses.model.places import classifier, improved_by, inserted
from gilib.draws import RandomLayer
from gilib.federated import Defense


class Dropped(RandomLayer):
    """The layer of ``dropout``: inputs times a mask of zeros and ones, divided by ``1 - p`` so that the mean stays.

    The draws are the mask, of the shape of the inputs (B, ...). Without draws the inputs pass unchanged.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def sample(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """A mask in which every entry is 0 with probability ``p`` and 1 otherwise."""
        return (torch.rand(inputs.shape, generator=generator, dtype=torch.float64, device="cpu") >= self.p).double()

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
        if improved_by(model, self):
            return model
        for name in self.before or (classifier(model),):
            model = inserted(model, name, Dropped(self.p), called="dropout", by=self)
        return model


def dropout(p: float = 0.5, *, before: Sequence[str] = ()) -> Defense:
    """Drop each feature with probability ``p``, drawn anew for every sample and round, before the last layer.

    ``before`` names other layers, as ``model.named_modules()`` does. A layer ``name`` moves to ``name.layer``, behind
    ``name.dropout``. Raises ValueError for ``p`` outside [0, 1); when the client trains, for a model without the layer,
    and without ``before`` where no fully connected layer is found to make the logits.

    Known as: dropout (defense). Needs draws that the server cannot repeat.
    Source: Zheng (2021) for the place before the classifier. Taught in: defenses/model.
    """
    return Dropout(p, tuple(before))
