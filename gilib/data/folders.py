"""Folders of images: one subfolder for each class, or flat."""

import os
from pathlib import Path

import torch

from gilib.data.batch import Dataset
from gilib.data.files import opened

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".gif", ".pgm", ".tif", ".tiff", ".webp")
_NOT_OF_PEOPLE = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")  # what systems put beside the files that people put there


def folder(path: Path, size: int | None) -> Dataset:
    """The images of a folder as colour squares, or as they are without a ``size``. Raises what ``load`` says."""
    samples, classes = _samples(path)
    images = [opened(file, size) for file, _ in samples]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        sizes = ", ".join(sorted(f"{width} x {height}" for _, height, width in shapes)[:4])
        raise ValueError(f"expected images of one size in {path}, got {sizes}. Pass size=32 to resize them.")
    labels = torch.tensor([label for _, label in samples], device="cpu")
    return Dataset(torch.stack(images), labels, classes)


def _samples(path: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """The files with their labels, and the names of the classes. Raises where it is not clear what belongs where."""
    flat = [entry for entry in sorted(path.iterdir()) if _is_image(entry.name) and not entry.is_dir()]
    subfolders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not _is_hidden(entry.name))
    inside = {entry.name: _images_below(entry) for entry in subfolders}
    full = [name for name, files in inside.items() if files]
    if flat and full:
        raise ValueError(
            f"{path} has images beside its subfolders ({flat[0].name}) and inside them ({full[0]}): expected one "
            "subfolder for each class, or no images in subfolders. Move one of the two elsewhere."
        )
    if flat:
        return [(file, 0) for file in flat], (path.resolve().name,)
    if not full:
        raise FileNotFoundError(f"expected images in {path}, found none. Put PNG or JPEG files there.")
    if empty := sorted(inside.keys() - full):
        raise FileNotFoundError(
            f"expected images of every class in {path}, found none in {', '.join(empty)}. Put PNG or JPEG files there, "
            "or remove the folder."
        )
    return [(file, label) for label, files in enumerate(inside.values()) for file in files], tuple(inside)


def _images_below(path: Path) -> list[Path]:
    """The images in a folder and in the folders inside it, one folder after another. No folder is entered twice."""
    found, entered = [], {path.resolve(), *path.resolve().parents}
    for place, folders, names in os.walk(path, followlinks=True):
        inside = {name: Path(place, name).resolve() for name in folders if not _is_hidden(name)}
        folders[:] = [name for name, real in inside.items() if real not in entered]  # a link may lead back
        entered.update(inside.values())
        found += [(place, name) for name in names if _is_image(name)]
    return [Path(place, name) for place, name in sorted(found)]


def _is_image(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _NOT_OF_PEOPLE
