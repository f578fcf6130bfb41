"""The two nouns of data, `Batch` and `Dataset`, and what they refuse."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """What one client computes its update on.

    `images` is ``(B, C, H, W)``, floating point, in [0, 1]. `labels` is ``(B,)`` int64, not negative, one class an
    image; or ``(B, K)``, floating point and finite, the targets of a loss: probabilities (see `check_probabilities`),
    several labels an image, or the real numbers of a regression. A batch of no images is one: where samples join a
    round at random, now and then none does. Anything else raises ValueError.

    >>> Batch(torch.zeros(2, 3, 32, 32), torch.tensor([4, 1]))
    Batch(images=(2, 3, 32, 32) torch.float32, labels=[4, 1])
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        self._check_inputs()
        if isinstance(self.labels, Tensor) and self.labels.ndim == 2 and self.labels.is_floating_point():
            _check_targets(self.labels, len(self.images))
        else:
            _check_labels(self.labels, len(self.images))

    def _check_inputs(self) -> None:
        _check_images(self.images)

    @property
    def inputs(self) -> Tensor:
        """The images as what the model is given; the rows of a `TableBatch`, the graphs of a `GraphBatch`."""
        return self.images

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        labels = self.labels.tolist() if self.labels.ndim == 1 else f"targets {tuple(self.labels.shape)}"
        return f"Batch(images={tuple(self.images.shape)} {self.images.dtype}, labels={labels})"


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled images and the names of their classes.

    `images` is ``(N, C, H, W)``, floating point, in [0, 1], N at least one; `labels` is ``(N,)`` int64, each an index
    into `classes`. Anything else raises ValueError.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        _check_images(self.images)
        if len(self.images) == 0:
            raise ValueError(f"expected a data set of at least one image, got {tuple(self.images.shape)}.")
        _check_labels(self.labels, len(self.images), classes=len(self.classes))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Dataset({len(self)} images of {tuple(self.images.shape[1:])}, classes={list(self.classes)})"

    def batch(self, indices: int | Sequence[int] | Tensor) -> Batch:
        """Copy the images at `indices`, one index or several, into a `Batch`; a tensor of none gives one of no images.

        Raises IndexError for an index outside the data set, ValueError for one that is no whole number and for [].
        """
        chosen = _whole_numbers(indices)
        if len(chosen) and (chosen.min() < -len(self) or chosen.max() >= len(self)):
            raise IndexError(f"expected indices from 0 to {len(self) - 1}, got {chosen.tolist()}: too few images.")
        return Batch(self.images[chosen.to(self.images.device)], self.labels[chosen.to(self.labels.device)])


def check_probabilities(labels: Tensor) -> None:
    """Raise ValueError unless each row of ``labels`` (B, K) is probabilities that sum to one, as mixed labels are.

    That is what a cross-entropy takes for targets. Other losses take others, so that a `Batch` does not ask for it.
    """
    if labels.ndim != 2 or not labels.is_floating_point():
        raise ValueError(f"expected labels (B, K) of probabilities, got {tuple(labels.shape)} of {labels.dtype}.")
    sums = labels.double().sum(dim=1)
    tolerance = max(1e-4, torch.finfo(labels.dtype).eps)  # half precision cannot sum closer to one
    if len(labels) and not ((labels >= 0).all() and ((sums - 1).abs() <= tolerance).all()):
        raise ValueError(
            "expected each row of labels to be probabilities that sum to one, got sums "
            f"{sums.tolist()} and a smallest value of {labels.min().item()}. Scale the rows, or use another loss than "
            "cross-entropy: one for several labels an image, or for real numbers."
        )


def _whole_numbers(indices: int | Sequence[int] | Tensor) -> Tensor:
    """The indices (N,) on the CPU. They may come as a number, a list, an array, a range or a tensor."""
    try:
        found = torch.as_tensor(indices if isinstance(indices, Tensor) else np.array(indices), device="cpu")
    except (TypeError, ValueError, RuntimeError):  # what torch and NumPy raise for what is no array of numbers
        found = torch.full((1,), torch.nan, device="cpu")
    found = found.reshape(1) if found.ndim == 0 else found
    whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if found.ndim != 1 or not whole:
        raise ValueError(f"expected one or more whole numbers as indices, got {indices!r}. Use batch([0, 1, 2]).")
    return found.long()


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = f"dtype {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"expected images as a floating-point tensor, got {got}. Use images.float() / 255 for bytes.")
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(
            f"expected images of shape (B, C, H, W) with at least one pixel, got {tuple(images.shape)}. "
            "Add the batch dimension of a single image with images[None]."
        )
    if images.is_meta:
        raise ValueError("expected images with numbers, got a tensor on the meta device. Make it on a real one.")
    if not images.isfinite().all():
        raise ValueError("expected finite images, got NaN or infinity. Check the step that made them.")
    low, high = (images.min().item(), images.max().item()) if len(images) else (0.0, 0.0)
    if low < 0 or high > 1:
        raise ValueError(
            f"expected images in [0, 1], got values from {low:.4g} to {high:.4g}. "
            "Divide bytes by 255, undo a normalization, or use images.clamp(0, 1)."
        )


def _check_labels(labels: Tensor, count: int, *, classes: int | None = None) -> None:
    hint = "" if classes is not None else " Targets of another kind are floating point, (B, K): targets[:, None]."
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        got = f"dtype {labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(
            f"expected labels as an int64 tensor, got {got}. Use torch.tensor(labels, dtype=torch.int64).{hint}"
        )
    if labels.shape != (count,):
        raise ValueError(
            f"expected one label for each of {count} images, shape ({count},), got {tuple(labels.shape)}.{hint}"
        )
    low, high = (int(labels.min()), int(labels.max())) if count else (0, 0)
    if low < 0 or (classes is not None and high >= classes):
        top = "" if classes is None else f" to {classes - 1}"
        raise ValueError(f"expected labels from 0{top}, got {low} to {high}. Number the classes from 0.")


def _check_targets(labels: Tensor, count: int) -> None:
    if len(labels) != count or labels.shape[1] == 0:
        raise ValueError(f"expected targets of shape ({count}, K), K at least one, got {tuple(labels.shape)}.")
    if not labels.isfinite().all():
        raise ValueError("expected finite targets, got NaN or infinity. Check the step that made them.")
