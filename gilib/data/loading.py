"""`load`: a data set by its name, or a folder of images by its path."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from gilib.data.batch import Dataset
from gilib.data.folders import folder
from gilib.data.provided import torchvision_set
from gilib.data.shipped import digits, faces, photos

_LOADERS: dict[str, Callable[[int | None, Path], Dataset]] = {
    "photos": photos,
    "digits": digits,
    "faces": faces,
    "cifar10": partial(torchvision_set, "CIFAR10"),
    "cifar100": partial(torchvision_set, "CIFAR100"),
    "mnist": partial(torchvision_set, "MNIST"),
}


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
      their centre when `size` is given. Hidden files and folders are skipped. Transparent parts show white, as on a
      page; of a file with several pages or frames, the first is read.

    `size` is the side in pixels to resize to; None keeps what the set has. Images are float32 multiples of 1/255
    (digits of 8 x 8: of 1/16; grey files of 16 bits: of 1/65535; files of real numbers: as they are), the same on
    every machine. Raises ValueError for an unknown name, a bad size, a file that is damaged, too large or of a kind
    whose white is not known, and for images both beside and inside the subfolders; FileNotFoundError for missing files
    and for classes without an image.

    >>> load("photos").batch([0, 1])
    Batch(images=(2, 3, 32, 32) torch.float32, labels=[0, 1])
    """
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ValueError(f"expected size as a whole number of pixels, at least 1, or None, got {size!r}.")
    if name in _LOADERS:
        return _LOADERS[str(name)](size, Path("data" if root is None else root))
    path = Path(name)
    if path.is_dir() and name != "":
        return folder(path, size)
    known = ", ".join(f'"{known}"' for known in _LOADERS)
    if isinstance(name, Path) or path.name != name:
        raise FileNotFoundError(
            f"no folder of images at {path}. Give the path of an existing folder, or one of {known}."
        )
    raise ValueError(f"unknown data set {name!r}. Use one of {known}, or the path of an existing folder of images.")
