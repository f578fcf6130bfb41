"""What clients hold: batches of images in [0, 1], and the data sets they come from.

`load` needs no download for "photos", "digits" and "faces"; "cifar10", "cifar100", "mnist" and folders of images are
read through torchvision from files that the reader provides. Each loader imports the package it reads from: together
they take several seconds, which nobody should wait for who needs only one.
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["Batch", "Dataset", "load"]


@dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """What one client computes its update on.

    `images` is ``(B, C, H, W)``, floating point, in [0, 1]; `labels` is ``(B,)`` int64, not negative, or mixed labels
    ``(B, K)``, floating point, each row probabilities that sum to one. Anything else, an empty batch included, raises
    ValueError.

    >>> Batch(torch.zeros(2, 3, 32, 32), torch.tensor([4, 1]))
    Batch(images=(2, 3, 32, 32) torch.float32, labels=[4, 1])
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        _check_images(self.images)
        if isinstance(self.labels, Tensor) and self.labels.ndim == 2 and self.labels.is_floating_point():
            _check_mixed_labels(self.labels, len(self.images))
        else:
            _check_labels(self.labels, len(self.images))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        labels = self.labels.tolist() if self.labels.ndim == 1 else f"mixed {tuple(self.labels.shape)}"
        return f"Batch(images={tuple(self.images.shape)} {self.images.dtype}, labels={labels})"


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled images and the names of their classes.

    `images` is ``(N, C, H, W)``, floating point, in [0, 1]; `labels` is ``(N,)`` int64, each an index into `classes`.
    Anything else raises ValueError.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        _check_images(self.images)
        _check_labels(self.labels, len(self.images), classes=len(self.classes))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Dataset({len(self)} images of {tuple(self.images.shape[1:])}, classes={list(self.classes)})"

    def batch(self, indices: int | Sequence[int] | Tensor) -> Batch:
        """Copy the images at `indices`, one index or several, into a `Batch`.

        Raises IndexError for an index outside the data set, ValueError for no index or one that is no whole number.
        """
        chosen = torch.as_tensor(indices)
        chosen = chosen.reshape(1) if chosen.ndim == 0 else chosen
        if chosen.ndim != 1 or len(chosen) == 0 or chosen.is_floating_point() or chosen.dtype == torch.bool:
            raise ValueError(f"expected one or more whole numbers as indices, got {indices!r}. Use batch([0, 1, 2]).")
        if chosen.min() < -len(self) or chosen.max() >= len(self):
            raise IndexError(f"expected indices from 0 to {len(self) - 1}, got {chosen.tolist()}: too few images.")
        chosen = chosen.to(self.images.device)
        return Batch(self.images[chosen], self.labels[chosen])


def load(name: str | Path, *, size: int | None = None, root: str | Path | None = None) -> Dataset:
    """Load a data set by name, or a folder of images by its path.

    - ``"photos"``: 240 colour crops of ten photographs that scikit-image and scikit-learn ship; the class is the
      photograph. Crops of one photograph overlap. The photographs take turns: any ten images in a row show ten
      classes. `size` defaults to 32.
    - ``"digits"``: 1,797 grey 8 x 8 digits of scikit-learn.
    - ``"faces"``: 200 grey 25 x 25 patches of scikit-image, faces first, then patches without a face.
    - ``"cifar10"``, ``"cifar100"``, ``"mnist"``: the training images, from torchvision's files under `root`
      (default: the folder ``data``).
    - a folder: one subfolder for each class, or flat, which makes one class. Images become colour squares, cut to
      their centre when `size` is given.

    `size` is the side in pixels to resize to; None keeps what the set has. Images are float32 multiples of 1/255
    (digits of 8 x 8: of 1/16), the same on every machine. Raises ValueError for an unknown name, a bad size or a
    damaged file, FileNotFoundError for missing files.

    >>> load("photos").batch([0, 1])
    Batch(images=(2, 3, 32, 32) torch.float32, labels=[0, 1])
    """
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ValueError(f"expected size as a whole number of pixels, at least 1, or None, got {size!r}.")
    if name in _LOADERS:
        return _LOADERS[str(name)](size, Path("data" if root is None else root))
    path = Path(name)
    if path.is_dir() and name != "":
        return _folder(path, size)
    known = ", ".join(f'"{known}"' for known in _LOADERS)
    if isinstance(name, Path) or path.name != name:
        raise FileNotFoundError(
            f"no folder of images at {path}. Give the path of an existing folder, or one of {known}."
        )
    raise ValueError(f"unknown data set {name!r}. Use one of {known}, or the path of an existing folder of images.")


# The windows (left, top, side) of each photograph that come first: chosen by eye, recognisable at 32 x 32 pixels.
_WINDOWS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "astronaut": ((120, 0, 220), (80, 0, 300), (300, 0, 212)),
    "cat": ((75, 0, 300), (90, 60, 190), (180, 100, 150)),
    "coffee": ((90, 5, 390), (150, 10, 250), (240, 170, 190)),
    "rocket": ((190, 100, 327), (230, 100, 180), (170, 207, 220)),
    "galaxies": ((560, 330, 220), (300, 20, 160), (340, 640, 180)),
    "retina": ((0, 0, 1411), (30, 400, 520), (40, 650, 620)),
    "tissue": ((230, 270, 220), (30, 0, 260), (250, 0, 240)),
    "motorcycle": ((110, 40, 460), (320, 60, 240), (90, 210, 230)),
    "pagoda": ((0, 20, 400), (60, 60, 280), (100, 20, 200)),
    "flower": ((100, 55, 320), (140, 75, 260), (200, 130, 160)),
}
_CROPS = 24  # of each photograph


def _photographs() -> Iterator[Image.Image]:
    """The photographs, in the order of `_WINDOWS`. All of them come inside the wheels: nothing is downloaded."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    for name in ("astronaut", "cat", "coffee", "rocket", "hubble_deep_field", "retina", "immunohistochemistry"):
        yield Image.fromarray(getattr(skimage.data, name)())
    left, _, _ = skimage.data.stereo_motorcycle()
    yield Image.fromarray(left)
    for name in ("china.jpg", "flower.jpg"):
        yield Image.fromarray(load_sample_image(name))


def _crops(photograph: Image.Image, first: Sequence[tuple[int, int, int]]) -> list[Image.Image]:
    """The chosen windows, then the liveliest windows of a regular 7 x 7 grid, each 40 % of the shorter side."""
    side = 2 * min(photograph.size) // 5
    columns, rows = ((length - side) * np.arange(7) // 6 for length in photograph.size)
    grid = [(int(left), int(top), side) for top in rows for left in columns]
    crops = [photograph.crop((left, top, left + side, top + side)) for left, top, side in (*first, *grid)]
    chosen, rest = crops[: len(first)], crops[len(first) :]
    # Nearly uniform windows (sky, black margins) show nothing. Whole numbers rank the same on every machine.
    ranked = sorted(range(len(rest)), key=lambda index: -_contrast(rest[index]))
    return chosen + [rest[index] for index in ranked[: _CROPS - len(first)]]


def _contrast(crop: Image.Image) -> int:
    """The variance of the colours, times the squared number of pixels, at a fixed small size."""
    pixels = np.asarray(_resized(crop, 32), dtype=np.int64).reshape(-1, 3)
    return int((len(pixels) * (pixels**2).sum(axis=0) - pixels.sum(axis=0) ** 2).sum())


def _photos(size: int | None, root: Path) -> Dataset:
    crops = [_crops(photograph, first) for photograph, first in zip(_photographs(), _WINDOWS.values(), strict=True)]
    turns = [crop for turn in zip(*crops, strict=True) for crop in turn]
    images = np.stack([np.asarray(_resized(crop, size or 32)) for crop in turns])
    labels = torch.arange(len(_WINDOWS)).repeat(_CROPS)
    return Dataset(_from_bytes(images), labels, tuple(_WINDOWS))


def _digits(size: int | None, root: Path) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.as_tensor(digits.images[:, None] / 16, dtype=torch.float32)
    labels = torch.as_tensor(digits.target, dtype=torch.int64)
    return Dataset(_interpolated(images, size), labels, tuple(map(str, range(10))))


def _faces(size: int | None, root: Path) -> Dataset:
    import skimage.data

    patches = skimage.data.lfw_subset()
    images = np.rint(patches[..., None] * 255).astype(np.uint8)
    labels = torch.arange(2).repeat_interleave(100)
    return Dataset(_interpolated(_from_bytes(images), size), labels, ("face", "not a face"))


def _torchvision(name: str, size: int | None, root: Path) -> Dataset:
    from torchvision import datasets

    kind = getattr(datasets, name)
    missing = [path for path in _files(kind, root) if not path.is_file()]
    get = f"Get the files with torchvision.datasets.{name}({str(root)!r}, download=True)"
    if missing:
        raise FileNotFoundError(f"expected {missing[0].name} in {missing[0].parent}, found no such file. {get}.")
    try:
        files = kind(str(root), train=True, download=False)
        images = np.asarray(files.data).reshape(len(files.data), *files.data.shape[1:3], -1)
        dataset = Dataset(_from_bytes(images), torch.as_tensor(files.targets, dtype=torch.int64), tuple(files.classes))
    except _DAMAGE as error:
        folder = _files(kind, root)[0].parent
        raise ValueError(f"a {name} file in {folder} is damaged ({error}). Delete the folder. {get}.") from error
    return Dataset(_interpolated(dataset.images, size), dataset.labels, dataset.classes)


_DAMAGE = (RuntimeError, OSError, ValueError, TypeError, AssertionError, LookupError, EOFError, pickle.UnpicklingError)


def _files(kind: Any, root: Path) -> list[Path]:
    """Where torchvision looks for the files of a data set."""
    if hasattr(kind, "resources"):
        return [root / kind.__name__ / "raw" / Path(url).stem for url, _ in kind.resources]
    names = [name for name, _ in kind.train_list + kind.test_list] + [kind.meta["filename"]]
    return [root / kind.base_folder / name for name in names]


_LOADERS: dict[str, Callable[[int | None, Path], Dataset]] = {
    "photos": _photos,
    "digits": _digits,
    "faces": _faces,
    "cifar10": partial(_torchvision, "CIFAR10"),
    "cifar100": partial(_torchvision, "CIFAR100"),
    "mnist": partial(_torchvision, "MNIST"),
}


def _folder(folder: Path, size: int | None) -> Dataset:
    from torchvision.datasets.folder import IMG_EXTENSIONS, ImageFolder

    if any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir()):
        found = ImageFolder(str(folder))
        samples, classes = found.samples, tuple(found.classes)
    else:
        samples = [(path, 0) for path in sorted(folder.iterdir()) if path.suffix.lower() in IMG_EXTENSIONS]
        classes = (folder.resolve().name,)
    if not samples:
        raise FileNotFoundError(f"expected images in {folder}, found none. Put PNG or JPEG files there.")
    pixels = [_opened(Path(path), size) for path, _ in samples]
    shapes = {image.shape for image in pixels}
    if len(shapes) > 1:
        sizes = ", ".join(sorted(f"{width} x {height}" for height, width, _ in shapes)[:4])
        raise ValueError(f"expected images of one size in {folder}, got {sizes}. Pass size=32 to resize them.")
    return Dataset(_from_bytes(np.stack(pixels)), torch.tensor([label for _, label in samples]), classes)


def _opened(path: Path, size: int | None) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is not a readable image ({error}). Replace it or remove it.") from error
    if size is None:
        return np.asarray(image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(_resized(image.crop((left, top, left + side, top + side)), size))


def _resized(image: Image.Image, size: int) -> Image.Image:
    """Pillow resizes bytes in whole numbers, antialiased: the same everywhere."""
    return image.resize((size, size), Image.Resampling.BICUBIC)


def _interpolated(images: Tensor, size: int | None) -> Tensor:
    """Images at another size, antialiased, rounded to multiples of 1/255 so that no float noise remains."""
    if size is None or tuple(images.shape[-2:]) == (size, size):
        return images
    chunks = []
    for start in range(0, len(images), 1024):
        chunk = images[start : start + 1024].double()
        resized = interpolate(chunk, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)
        # The tiny offset keeps exact halves from falling to either side.
        chunks.append((255 * resized + 0.5 + 1e-6).floor().float() / 255)
    return torch.cat(chunks)


def _from_bytes(images: NDArray[np.uint8]) -> Tensor:
    """From ``(N, H, W, C)`` bytes to ``(N, C, H, W)`` float32 in [0, 1]."""
    return torch.tensor(images).permute(0, 3, 1, 2).contiguous().float() / 255


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = f"dtype {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"expected images as a floating-point tensor, got {got}. Use images.float() / 255 for bytes.")
    if images.ndim != 4 or images.numel() == 0:
        raise ValueError(
            f"expected images of shape (B, C, H, W) with at least one image, got {tuple(images.shape)}. "
            "Add the batch dimension of a single image with images[None]."
        )
    if not images.isfinite().all():
        raise ValueError("expected finite images, got NaN or infinity. Check the step that made them.")
    low, high = images.min().item(), images.max().item()
    if low < 0 or high > 1:
        raise ValueError(
            f"expected images in [0, 1], got values from {low:.4g} to {high:.4g}. "
            "Divide bytes by 255, undo a normalization, or use images.clamp(0, 1)."
        )


def _check_labels(labels: Tensor, count: int, *, classes: int | None = None) -> None:
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        got = f"dtype {labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"expected labels as an int64 tensor, got {got}. Use torch.tensor(labels, dtype=torch.int64).")
    if labels.shape != (count,):
        raise ValueError(f"expected one label for each of {count} images, shape ({count},), got {tuple(labels.shape)}.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes is not None and high >= classes):
        top = "" if classes is None else f" to {classes - 1}"
        raise ValueError(f"expected labels from 0{top}, got {low} to {high}. Number the classes from 0.")


def _check_mixed_labels(labels: Tensor, count: int) -> None:
    if len(labels) != count or labels.shape[1] == 0:
        raise ValueError(f"expected mixed labels of shape ({count}, classes), got {tuple(labels.shape)}.")
    if not (labels >= 0).all() or not torch.allclose(labels.sum(dim=1), labels.new_ones(()), atol=1e-4):
        raise ValueError(
            "expected each row of mixed labels to be probabilities that sum to one, got sums "
            f"{labels.sum(dim=1).tolist()} and a smallest value of {labels.min().item()}."
        )
