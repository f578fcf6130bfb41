"""What a server of another engine kept of one client and one round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gilib.federated import LocalTraining, Update, copied, received

Weights = Mapping[str, Tensor] | Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Kept:
    """The weights that a client received and those that it sent back, state dicts or arrays in their order.

    ``examples`` is how many samples the client says that it trained on, None where it does not say; ``node`` and
    ``round`` are the engine's own numbers.
    """

    before: Weights
    after: Weights
    node: int
    round: int
    examples: int | None = None

    def update(
        self,
        model: nn.Module,
        *,
        image_shape: tuple[int, int, int],
        local: LocalTraining,
        batch_size: int | None = None,
        **agreed: Any,
    ) -> tuple[nn.Module, Update]:
        """A copy of the model as the client received it, and the client's update.

        ``batch_size`` is what the client says unless given. The other arguments are those of
        `Update.from_state_dicts`. Raises ValueError for weights that do not fit, and for an unknown batch size.
        """
        size = self.examples if batch_size is None else batch_size
        if size is None:
            raise ValueError("the client did not say how many samples it trained on: give batch_size.")
        start, end = _named(model, self.before), _named(model, self.after)
        served = loaded(model, start)
        agreed |= {"batch_size": size, "image_shape": image_shape, "local": local}
        return served, Update.from_state_dicts(served, start, end, **agreed)

    def save(self, folder: Path | str, model: nn.Module) -> tuple[Path, Path]:
        """Write ``before.pt`` and ``after.pt``, which ``gilib audit --before --after`` takes; returns the two paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = folder / "before.pt", folder / "after.pt"
        for path, weights in zip(paths, (self.before, self.after), strict=True):
            torch.save(dict(_named(model, weights)), path)
        return paths


def loaded(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the model with these weights. Raises ValueError where they belong to another model."""
    fresh = copied(model)
    try:
        fresh.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ValueError(f"the weights belong to another model: {error}") from error
    return fresh


def _named(model: nn.Module, weights: Weights) -> dict[str, Tensor]:
    if isinstance(weights, Mapping):
        return dict(weights)
    return dict(received.named(model, weights, "the weights"))
