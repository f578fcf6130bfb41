"""Whether an update says anything at all: a gradient that is zero, or too small for its number format, does not."""

import torch

from gilib.federated import Update


def check_signal(update: Update, *, name: str = "the update") -> None:
    """Refuse a gradient from which nothing follows: raises ValueError if it is zero or its squares underflow.

    A gradient is zero where the loss is: with a single class, or a model that is certain of its answer.
    """
    largest = max((float(value.abs().max()) for value in update.gradients.values() if value.numel()), default=0.0)
    if largest == 0:
        raise ValueError(
            f"the gradient of {name} is zero and says nothing about the data: the loss did not depend on the model. "
            "Does the data have a single class, or one logit without the logistic loss, or was the model certain?"
        )
    dtypes = [value.dtype for value in update.gradients.values()]
    precise = torch.float64 if torch.float64 in dtypes else torch.float32  # half precision is searched in float32
    if largest < torch.finfo(precise).tiny ** 0.5:
        raise ValueError(
            f"the gradient of {name} is tiny, {largest:.1e} at most: its squares underflow in {precise}, and nothing "
            "can be matched to it. Compute the update and the attack in float64 (model.double())."
        )
