"""The images of an audit: a folder, a data set by its name, or a file of tensors."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gilib import data
from gilib.data import Dataset

FILES = (".pt", ".pth")
FORM = "torch.save({'images': images, 'labels': labels}, path), images (N, C, H, W) in [0, 1], labels (N,) int64"


def given(source: str, *, size: int | None = None, grey: bool = False) -> Dataset:
    """The images of a folder, of a data set that ``gilib.data.load`` knows, or of a file of tensors (`FORM`).

    ``grey`` takes the mean of the colours. Raises FileNotFoundError and ValueError, and says what was expected.
    """
    path = Path(source)
    found = _tensors(path, size) if path.suffix in FILES else data.load(source, size=size)
    return replace(found, images=found.images.mean(dim=1, keepdim=True)) if grey else found


def _tensors(path: Path, size: int | None) -> Dataset:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}. It should be of {FORM}.")
    held = loaded_tensors(path)
    if not {"images", "labels"} <= held.keys():
        raise ValueError(f"expected {path} to hold images and labels, got {', '.join(held) or 'nothing'}. Use {FORM}.")
    images, labels = held["images"], held["labels"]
    if size is not None and images.shape[-2:] != (size, size):
        raise ValueError(
            f"{path} holds images of shape {tuple(images.shape)}, and tensors are not resized to --size {size}: "
            "store them at the size that the model takes."
        )
    count = int(labels.max()) + 1 if labels.numel() else 1
    return Dataset(images, labels, tuple(str(one) for one in range(count)))


def loaded_tensors(path: Path) -> Mapping[str, Tensor]:
    """What a file of ``torch.save`` holds: names and tensors. Raises ValueError where it holds anything else."""
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage makes it raise
        raise ValueError(f"{path} holds no tensors that can be loaded safely: {type(error).__name__}.") from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"expected {path} to hold names and tensors; got a {type(found).__name__}.")
    return found
