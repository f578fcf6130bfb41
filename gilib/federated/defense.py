"""The interface of a defense: what a client may change about its batch, its model, its training and its update."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from gilib.data import Batch
from gilib.federated.local_training import LocalTraining
from gilib.federated.update import Update


class Defense:
    """Base of every defense. Each of the five methods does nothing until a family of defenses overrides it.

    ``public`` is what the defense tells everybody, its settings for instance, and all that an adaptive attack may use.
    ``keeps_sensitivity`` says that whatever it changes before an update gets noise moves no sum by more than a clipping
    promised: it treats every sample by itself, or does not look at the data. Only `dp_sgd` asks for it.
    """

    keeps_sensitivity: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return type(self).__name__

    @property
    def public(self) -> Mapping[str, object]:
        """What an adaptive attack may know of this defense."""
        return {}

    def compatible(self, *, before: Sequence["Defense"], after: Sequence["Defense"]) -> None:
        """Raise ValueError where other defenses of the client, by their order, void what this one promises."""

    def obscure(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """Change the batch before training (data obscuration)."""
        return batch

    def improve(self, model: nn.Module) -> nn.Module:
        """Return the model to train on instead of ``model``, which stays as it is (model improvement).

        A model that this defense has improved before is returned unchanged: rounds go on with what they began with.
        """
        return model

    def agree(self, local: LocalTraining) -> LocalTraining:
        """Change the local training that client and server agree on."""
        return local

    def withhold(self, update: Update, *, model: nn.Module, batch: Batch) -> Update:
        """Leave parts of the update out, chosen by the data it was computed from (gradient protection).

        ``model`` and ``batch`` are those that were trained with. Called just before ``protect``. What is missing
        depends on the data, and no noise covers that: beside ``dp_sgd`` a defense that withholds voids the guarantee.
        """
        return update

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """Change the update before it leaves the client (gradient protection)."""
        return update
