"""What a server of another engine kept of one client and one round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gilib.federated import LocalTraining, Update, copied, received

Weights = Mapping[str, Tensor] | Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Kept:
    """The weights that a client received and those that it sent back, by name, or as arrays in the model's order.

    By name they are tensors or NumPy arrays, as in OpenFL; without names they come in the order of
    ``model.state_dict()``, as from Flower's NumPy clients, buffers included or not.

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
        image_shape: tuple[int, ...],
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
    """A copy of the model with these weights; buffers may be missing. Raises ValueError for those of another model."""
    fresh = copied(model)
    own = {name for name, _ in fresh.named_buffers()}
    try:
        missing, unknown = fresh.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise ValueError(f"the weights belong to another model: {error}") from error
    missing = [name for name in missing if name not in own]
    if missing or unknown:
        raise ValueError(
            f"the weights belong to another model: missing {_some(missing)}; not in the model {_some(unknown)}. Pass "
            "the model that the client trained."
        )
    return fresh


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (" and more" if len(names) > 3 else "") if names else "none"


def _named(model: nn.Module, weights: Weights) -> dict[str, Tensor]:
    if isinstance(weights, Mapping):
        return {name: torch.as_tensor(value) for name, value in weights.items()}
    found = dict(received.named(model, weights, "the weights"))
    state = model.state_dict()
    for place, (name, value) in enumerate(found.items()):
        if value.shape != state[name].shape:
            raise ValueError(
                f"expected the weights in the order of model.state_dict(): number {place} is {name!r} of shape "
                f"{tuple(state[name].shape)}; got {tuple(value.shape)}. Where the engine has names, give a dictionary."
            )
    return found
