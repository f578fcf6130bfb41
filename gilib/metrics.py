"""How close a reconstruction is to the truth, one value per image, and whether it gives the image away.

Every distance takes two stacks of images ``(B, C, H, W)`` in [0, 1], computes in float64 and returns ``(B,)``. The
order of the images in a batch is not observable from its gradient, so align a batch with `match` before measuring it.
`labels_read` is for lists of labels, whose order is not observable either.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gilib.federated import checked_logits

__all__ = ["RECOVERED", "labels_read", "match", "mse", "named", "psnr", "read", "ssim"]

RECOVERED = 25.0
"""PSNR in decibels above which this book calls an image recovered. Details can be seen there, whatever the error is.

Far below it a person may be told apart (`named`) or an image understood (`read`), so a recovery below this line is no
proof of safety. Chosen by looking in foundations/federated_learning.
"""


def mse(reconstruction_images: Tensor, true_images: Tensor) -> Tensor:
    """Mean squared error of each image: 0 for equal images, at most 1.

    Takes two ``(B, C, H, W)`` tensors in [0, 1], returns ``(B,)`` float64. Raises ValueError for other input.
    Taught in: foundations/federated_learning.

    >>> mse(torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, 3, 8, 8))
    tensor([0.2500], dtype=torch.float64)
    """
    reconstruction, truth = _checked(reconstruction_images, true_images)
    return (reconstruction - truth).square().flatten(1).mean(1)


def psnr(reconstruction_images: Tensor, true_images: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in decibels: ``-10 log10(mse)``, since the peak is 1.

    Takes two ``(B, C, H, W)`` tensors in [0, 1], returns ``(B,)`` float64; equal images give infinity. Raises
    ValueError for other input.
    Taught in: foundations/federated_learning.

    >>> psnr(torch.full((1, 3, 8, 8), 0.1), torch.zeros(1, 3, 8, 8)).round(decimals=2)
    tensor([20.], dtype=torch.float64)
    """
    return -10.0 * mse(reconstruction_images, true_images).log10()


def ssim(reconstruction_images: Tensor, true_images: Tensor) -> Tensor:
    """Structural similarity of each image: 1 for equal images, about 0 for unrelated ones, down to -1.

    Takes two ``(B, C, H, W)`` tensors in [0, 1], returns ``(B,)`` float64. The window is the usual Gaussian of 11 x 11
    pixels with standard deviation 1.5. On images smaller than that it is the largest odd window that fits, its standard
    deviation scaled along (7 x 7 on the 8 x 8 digits), so compare values only between images of one size. Raises
    ValueError for other input and for images with a side under 3 pixels.

    Source: Wang, Bovik, Sheikh & Simoncelli (2004), eq. 13. Taught in: foundations/federated_learning.
    """
    # Imported here because torchmetrics alone takes longer to import than the rest of gilib.
    from torchmetrics.functional.image import structural_similarity_index_measure

    reconstruction, truth = _checked(reconstruction_images, true_images)
    radius = min(5, (min(truth.shape[-2:]) - 1) // 2)
    if radius < 1:
        raise ValueError(
            f"ssim needs images of at least 3 x 3 pixels, got {truth.shape[-2]} x {truth.shape[-1]}. "
            "Use mse or psnr for such images."
        )
    # torchmetrics derives the window from sigma: 2 int(3.5 sigma + 0.5) + 1 pixels.
    sigma = 1.5 if radius == 5 else radius / 3.5
    values = structural_similarity_index_measure(reconstruction, truth, sigma=sigma, data_range=1.0, reduction="none")
    assert isinstance(values, Tensor)
    return values.reshape(-1)


def match(reconstruction_images: Tensor, true_images: Tensor) -> Tensor:
    """Find the order in which the reconstructed images fit the true ones best.

    Returns a permutation ``(B,)`` int64 that minimizes the summed mean squared error, so that
    ``reconstruction_images[permutation]`` lines up with ``true_images``. Takes two ``(B, C, H, W)`` tensors in [0, 1],
    raises ValueError for other input. Solved exactly as a linear assignment problem.

    Taught in: foundations/federated_learning.
    """
    from scipy.optimize import linear_sum_assignment

    reconstruction, truth = _checked(reconstruction_images, true_images)
    # One row per true image: the whole (B, B, C, H, W) difference would not fit in memory for large batches.
    cost = torch.stack([(reconstruction - image).square().flatten(1).mean(1) for image in truth])
    _, columns = linear_sum_assignment(cost.cpu().numpy())
    return torch.as_tensor(columns, dtype=torch.int64, device=reconstruction.device)


def named(reconstruction_images: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
    """Whether each reconstruction names its image among N: no other candidate is as near.

    Takes reconstructions ``(B, C, H, W)`` and candidates ``(N, C, H, W)`` in [0, 1], and ``own`` ``(B,)`` int64, the
    candidate that each reconstruction is of; near means a small mean squared error. Returns ``(B,)`` bool; a blind
    guess is right once in N. Raises ValueError for other input. Taught in: foundations/federated_learning.
    """
    for name, images in (("reconstruction_images", reconstruction_images), ("candidates", candidates)):
        _check(name, images)
    count = len(candidates)
    if reconstruction_images.shape[1:] != candidates.shape[1:]:
        raise ValueError(
            f"expected images of one size, got {tuple(reconstruction_images.shape[1:])} and candidates of "
            f"{tuple(candidates.shape[1:])}. Resize the candidates to what the client used."
        )
    if count < 2 or own.shape != (len(reconstruction_images),) or own.is_floating_point():
        raise ValueError(
            f"expected at least 2 candidates and own as {len(reconstruction_images)} whole numbers, got {count} "
            f"candidates and own of shape {tuple(own.shape)} and {own.dtype}. Give the index of each true image."
        )
    if own.min() < 0 or own.max() >= count:
        raise ValueError(
            f"own must index the {count} candidates, 0 to {count - 1}; got {own.min().item()} to {own.max().item()}."
        )
    found, pool = [], candidates.detach().to(reconstruction_images.device).double()
    for image, mine in zip(reconstruction_images.detach().double(), own.tolist(), strict=True):
        errors = (pool - image).square().flatten(1).mean(1)
        found.append((errors <= errors[mine]).sum() == 1)
    return torch.stack(found)


def read(reconstruction_images: Tensor, labels: Tensor, classifier: Callable[[Tensor], Tensor]) -> Tensor:
    """Whether a classifier reads the right class off each reconstruction.

    Takes images ``(B, C, H, W)`` in [0, 1], ``labels`` ``(B,)`` int64, and a trained model that returns logits
    ``(B, K)``, in eval mode; a module gets the images in the dtype and on the device of its parameters. Returns
    ``(B,)`` bool; say beside it how often the classifier is right on true images. Raises ValueError for other input.
    Taught in: foundations/federated_learning.
    """
    _check("reconstruction_images", reconstruction_images)
    own = next(classifier.parameters(), None) if isinstance(classifier, nn.Module) else None
    images = reconstruction_images if own is None else reconstruction_images.to(own)
    with torch.no_grad():
        logits = checked_logits(lambda _, stack: classifier(stack), {}, images)
    if labels.shape != (len(images),):
        raise ValueError(
            f"expected one label for each of {len(images)} images, got labels of shape {tuple(labels.shape)}."
        )
    return logits.argmax(dim=1) == labels.to(logits.device)


def labels_read(found: Tensor, true: Tensor) -> float:
    """The share of a batch's labels that are in the other list as well, each as often as it occurs in both.

    Takes two lists of classes, int64 and at least 0, of which ``true`` (B,) has the batch's; the order plays no role,
    since gradients do not show it. Taught in: iteration/labels.

    >>> labels_read(torch.tensor([1, 1, 2, 3]), torch.tensor([1, 2, 2, 4]))
    0.5
    """
    count = int(torch.cat([found.cpu(), true.cpu()]).max()) + 1
    once, again = (torch.bincount(one.cpu(), minlength=count) for one in (found, true))
    return float(torch.minimum(once, again).sum()) / len(true)


def _checked(reconstruction_images: Tensor, true_images: Tensor) -> tuple[Tensor, Tensor]:
    """Both stacks in float64, or a ValueError that says what is wrong with which."""
    for name, images in (("reconstruction_images", reconstruction_images), ("true_images", true_images)):
        _check(name, images)
    if reconstruction_images.shape != true_images.shape:
        raise ValueError(
            f"expected two stacks of one shape, got reconstruction_images {tuple(reconstruction_images.shape)} and "
            f"true_images {tuple(true_images.shape)}. Repeat or index one of them, so that images pair up."
        )
    return reconstruction_images.detach().double(), true_images.detach().to(reconstruction_images.device).double()


def _check(name: str, images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = f"dtype {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"expected {name} as a floating-point tensor, got {got}. Use images.float() / 255 for bytes.")
    if images.ndim != 4 or images.numel() == 0:
        raise ValueError(
            f"expected {name} of shape (B, C, H, W) with no empty dimension, got {tuple(images.shape)}. "
            "Add the batch dimension of a single image with images[None]."
        )
    if not images.isfinite().all():
        raise ValueError(
            f"expected finite {name}, got NaN or infinity. Drop diverged reconstructions before measuring."
        )
    low, high = images.min().item(), images.max().item()
    if low < 0 or high > 1:
        raise ValueError(f"expected {name} in [0, 1], got {low:.4g} to {high:.4g}. Use images.clamp(0, 1).")
