"""What leaves the client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal

from numpy.typing import NDArray
from torch import Tensor, nn

from gilib.federated import received
from gilib.federated.local_training import PLAIN, LocalTraining
from gilib.federated.losses import Loss, cross_entropy
from gilib.federated.simulation import Gradients

Mode = Literal["eval", "train"]


@dataclass(frozen=True)
class Update:
    """What leaves the client, and what both sides agreed on beforehand.

    ``gradients``: parameter name to tensor of the parameter's shape. After several local steps it is the parameter
    change divided by minus the learning rate, so that one step gives the plain gradient. ``image_shape`` is (C, H,
    W); for rows of a table it is (D,), for graphs (n, f + n). ``local``, ``loss`` and ``mode`` are the agreed training.
    ``labels`` (B,) and ``buffers`` (batch-norm
    statistics) are None unless the threat model shares them; labels that a defense mixed, or that are numbers, are (B,
    K). ``public`` is what the defenses make public, by defense name. ``weight`` is what the gradients were multiplied
    by before a sum, so that the plain mean over clients is the mean over samples.

    A client makes updates; those of another engine come in by ``from_gradients``, ``from_state_dicts`` and
    ``from_arrays``.
    """

    gradients: Gradients
    batch_size: int
    image_shape: tuple[int, ...]
    local: LocalTraining = PLAIN
    loss: Loss = cross_entropy
    mode: Mode = "eval"
    buffers: dict[str, Tensor] | None = None
    labels: Tensor | None = None
    public: Mapping[str, object] = field(default_factory=dict)
    weight: float = 1.0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input of any kind, another name of ``image_shape``."""
        return self.image_shape

    @classmethod
    def from_gradients(
        cls,
        model: nn.Module,
        gradients: Mapping[str, Tensor] | Sequence[Tensor] | str | PathLike[str],
        *,
        batch_size: int,
        image_shape: tuple[int, ...],
        **agreed: Any,
    ) -> "Update":
        """An update from the gradients that another program computed on ``model``, in one local step.

        ``gradients`` are a dictionary by parameter name, a list in the order of ``model.named_parameters()`` (frozen
        ones left out or None), or the path of a file in which `torch.save` stored either.
        ``agreed`` are the other fields: loss, mode, labels, buffers, local. Raises ValueError for names, shapes or
        numbers that do not fit the model, and says what was expected, and FileNotFoundError for a missing file.
        """
        found = received.gradients(model, gradients)
        return cls(found, batch_size=batch_size, image_shape=image_shape, **agreed)

    @classmethod
    def from_state_dicts(
        cls,
        model: nn.Module,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        *,
        batch_size: int,
        image_shape: tuple[int, ...],
        local: LocalTraining,
        share_buffers: bool = False,
        **agreed: Any,
    ) -> "Update":
        """An update from the weights that a client received and those that it sent back.

        ``before`` and ``after`` are state dicts of ``model``; the model's own weights must be those before, because an
        attack computes with them. The gradients are ``(before - after) / learning_rate``. ``after`` may lack buffers;
        with ``share_buffers`` those that it has go into the update. ``public["rounding"]`` is by how much the rounding
        of the weights may have changed the gradients, relative to their norm. ``agreed`` are the other fields: loss,
        mode, labels. Raises ValueError for names, shapes or numbers that do not fit, for weights that did not change,
        and for a model with other weights.
        """
        found, buffers, rounding = received.change(model, before, after, rate=local.learning_rate)
        public = {**agreed.pop("public", {}), "rounding": rounding}
        kept = buffers if share_buffers else None
        return cls(
            found, batch_size=batch_size, image_shape=image_shape, local=local, buffers=kept, public=public, **agreed
        )

    @classmethod
    def from_arrays(
        cls,
        model: nn.Module,
        before: Sequence[NDArray[Any]],
        after: Sequence[NDArray[Any]],
        *,
        batch_size: int,
        image_shape: tuple[int, ...],
        local: LocalTraining,
        **agreed: Any,
    ) -> "Update":
        """An update from two lists of NumPy arrays in the order of ``model.state_dict()``, buffers included or not.

        This is what Flower's NumPy clients and others exchange. Otherwise like ``from_state_dicts``.
        """
        return cls.from_state_dicts(
            model,
            received.named(model, before, "before"),
            received.named(model, after, "after"),
            batch_size=batch_size,
            image_shape=image_shape,
            local=local,
            **agreed,
        )
