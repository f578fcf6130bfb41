"""Data sets whose files the reader provides, read through torchvision."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gilib.data.batch import Dataset
from gilib.data.pixels import from_bytes, interpolated


def torchvision_set(name: str, size: int | None, root: Path) -> Dataset:
    """The training images of torchvision's data set ``name``, from its files under ``root``."""
    from torchvision import datasets

    kind = getattr(datasets, name)
    missing = [path for path in _files(kind, root) if not path.is_file()]
    get = f"Get the files with torchvision.datasets.{name}({str(root)!r}, download=True)"
    if missing:
        raise FileNotFoundError(f"expected {missing[0].name} in {missing[0].parent}, found no such file. {get}.")
    try:
        files = kind(str(root), train=True, download=False)
        images = np.asarray(files.data).reshape(len(files.data), *files.data.shape[1:3], -1)
        labels = torch.as_tensor(files.targets, dtype=torch.int64, device="cpu")
        dataset = Dataset(from_bytes(images), labels, tuple(files.classes))
    except _DAMAGE as error:
        folder = _files(kind, root)[0].parent
        raise ValueError(f"a {name} file in {folder} is damaged ({error}). Delete the folder. {get}.") from error
    return Dataset(interpolated(dataset.images, size), dataset.labels, dataset.classes)


_DAMAGE = (RuntimeError, OSError, ValueError, TypeError, AssertionError, LookupError, EOFError, pickle.UnpicklingError)


def _files(kind: Any, root: Path) -> list[Path]:
    """Where torchvision looks for the files of a data set."""
    if hasattr(kind, "resources"):
        return [root / kind.__name__ / "raw" / Path(url).stem for url, _ in kind.resources]
    names = [name for name, _ in kind.train_list + kind.test_list] + [kind.meta["filename"]]
    return [root / kind.base_folder / name for name in names]
