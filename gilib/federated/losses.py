"""Losses of a client, the targets they take, and what form their derivative has."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of ``logits`` (B, K) against ``targets`` (B, K), one probability vector a sample.

    Targets are probabilities rather than class indices, so that an attack can optimize them (DLG) and a defense can mix
    them (MixUp).
    """
    return -(targets * torch.log_softmax(logits, dim=-1)).sum(dim=-1).mean()


def logistic(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean logistic loss of single logits (B, 1) against ``targets`` (B, 1), the probabilities of label 1.

    For a model with one logit, whose cross-entropy would be zero. Taught in: recursion/rgap.
    """
    log_likelihood = targets * logsigmoid(logits) + (1 - targets) * logsigmoid(-logits)
    return -log_likelihood.mean()


def as_targets(labels: Tensor, classes: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Labels as targets (B, K): one-hot for labels (B,) of int64, unchanged for labels that are (B, K).

    With a single logit (``classes=1``) a label is 0 or 1, and its own target (B, 1). Raises ValueError if a label is
    not one of the ``classes``, or if targets have another number of columns.
    """
    if labels.ndim == 2:
        if labels.shape[1] != classes:
            raise ValueError(
                f"expected targets of shape ({len(labels)}, {classes}), one number a logit; got {tuple(labels.shape)}."
            )
        return labels.to(dtype)
    top = max(1, classes - 1)
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) <= top:
        raise ValueError(
            f"labels must lie in 0..{top}, because the model returns {classes} logits; "
            f"got {int(labels.min())}..{int(labels.max())}. Give the model as many classes as the data set has."
        )
    if classes == 1:
        return labels[:, None].to(dtype)
    return nn.functional.one_hot(labels, classes).to(dtype)


def probabilities(logits: Tensor) -> Tensor:
    """What ``logits`` (..., K) predict: their softmax, or of a single logit the probability of label 1."""
    return logits.sigmoid() if logits.shape[-1] == 1 else logits.softmax(dim=-1)


def classes_of(targets: Tensor) -> Tensor:
    """The most likely label (B,) of each row of ``targets`` (B, K); of a single number whether it is over a half."""
    return (targets[..., 0] > 0.5).long() if targets.shape[-1] == 1 else targets.argmax(dim=-1)


def logit_errors(loss: Loss, logits: Tensor, targets: Tensor) -> Tensor:
    """The derivative (B, K) of ``loss`` by ``logits`` (B, K).

    Raises ValueError for a loss that does not take logits and targets of one shape, or that returns no single number.
    """
    try:
        value, pull = torch.func.vjp(lambda z: loss(z, targets), logits)[:2]
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        raise ValueError(
            f"the loss does not take logits and targets of shape {tuple(logits.shape)} ({_line(error)}). A client's "
            "loss gets both as (B, K), targets being probabilities or numbers, and returns one number."
        ) from error
    if value.ndim:
        raise ValueError(f"the loss must return one number for a batch; got shape {tuple(value.shape)}. Average it.")
    return pull(torch.ones_like(value))[0]


@dataclass(frozen=True)
class ErrorForm:
    """The derivative of a loss by the logits, ``scale * (p - (1 - smoothing) y - smoothing / K)`` for every sample.

    p are the predicted probabilities, y the targets, K the classes. ``scale`` is ``1 / B`` for the mean cross-entropy
    of a batch of B, 1 for its sum, half of that for half the loss. ``smoothing`` is that of the labels, mostly 0.
    """

    scale: float
    smoothing: float


def error_form(loss: Loss, classes: int, *, samples: int = 1, like: Tensor | None = None) -> ErrorForm | None:
    """The form of a loss's derivative by ``classes`` logits, on a batch of ``samples``; None where it is another.

    Other forms are those of a squared error, or of a cross-entropy with weights. Found by asking the loss at three
    random batches, of the dtype and on the device of ``like``.
    """
    dtype = torch.float64 if like is None or like.dtype == torch.float64 else torch.float32
    device = torch.device("cpu") if like is None else like.device
    asked = _asked if isinstance(loss, nn.Module) else _remembered  # the settings of a module may change
    return asked(loss, classes, samples, dtype, device)


def _asked(loss: Loss, classes: int, samples: int, dtype: torch.dtype, device: torch.device) -> ErrorForm | None:
    generator, plain, smooth, found = torch.Generator(device="cpu").manual_seed(0), [], [], []
    for spread in (0.5, 2.0, 6.0):
        drawn = torch.randn(samples, classes, generator=generator, dtype=torch.float64, device="cpu")
        logits = (spread * drawn).to(device, dtype)
        labels = torch.randint(max(2, classes), (samples,), generator=generator, device="cpu").to(device)
        targets = as_targets(labels, classes, dtype=dtype)
        try:
            found.append(logit_errors(loss, logits, targets).flatten())
        except ValueError:
            return None
        plain.append((probabilities(logits) - targets).flatten())
        smooth.append((targets - 1 / max(2, classes)).flatten())
    parts = torch.stack([torch.cat(plain), torch.cat(smooth)], dim=1).double().cpu()
    seen = torch.cat(found).double().cpu()
    solution = torch.linalg.lstsq(parts, seen[:, None]).solution[:, 0]
    scale, smoothed = solution.tolist()
    if not scale > 0 or (parts @ solution - seen).abs().max() > 1e-4 * scale or not -1e-4 < smoothed / scale < 1:
        return None
    return ErrorForm(scale, 0.0 if smoothed < 1e-4 * scale else smoothed / scale)


_remembered = lru_cache(maxsize=256)(_asked)


def error_scale(loss: Loss, classes: int, *, samples: int = 1, like: Tensor | None = None) -> float | None:
    """The number c with which the loss's derivative by the logits is ``c (p - y)``; None for a loss of another form."""
    form = error_form(loss, classes, samples=samples, like=like)
    return None if form is None or form.smoothing else form.scale


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:160]
