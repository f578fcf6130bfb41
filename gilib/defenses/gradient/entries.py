"""What the defenses of a gradient's entries share: which are largest, and whether there is an order of them at all."""

import torch
from torch import Tensor

from gilib.federated import Gradients, Update


def largest(values: Tensor, count: int) -> Tensor:
    """A mask of the ``count`` entries of ``values`` (N,) with the largest magnitude, of equal ones the earlier."""
    order = values.abs().argsort(descending=True, stable=True)
    return torch.zeros_like(values, dtype=torch.bool).index_fill(0, order[:count], True)


def wide(value: Tensor) -> Tensor:
    """The value in a precision to compute in: half precision as float32, everything else as it is."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def finite(update: Update) -> Gradients:
    """The update's gradients. Raises ValueError where one is not finite: it has no place in an order of magnitudes."""
    for name, value in update.gradients.items():
        if not value.isfinite().all():
            raise ValueError(
                f"expected finite gradients, got NaN or infinity in {name!r}. Check images and learning rate."
            )
    return update.gradients


def check_share(name: str, value: float) -> None:
    """Raise ValueError for a share outside [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1; got {value}.")
