"""What undoes mixing: the private images from encodings of many rounds, with weights read off the mixed labels."""

import torch
from torch import Tensor

from gilib.defenses.obscuration.mixing import mixing_weights
from gilib.federated import seeded_generator


def unmix(encodings: Tensor, weights: Tensor) -> Tensor:
    """The private images (N, C, H, W) from mixtures (T, C, H, W) and their ``weights`` (T, N), by least squares.

    Exact for MixUp with ``weights`` of rank N, which takes T of at least N. Raises ValueError for shapes that do not
    fit.

    Known as: unmixing (attack). Needs the mixtures, and who is in them with which weight.
    Taught in: defenses/obscuration.
    """
    _check_weights(encodings, weights)
    flat = _least_squares(weights.double(), encodings.double().flatten(1))
    return flat.reshape(-1, *encodings.shape[1:]).clamp(0, 1)


def decode(
    encodings: Tensor,
    weights: Tensor,
    *,
    like: Tensor | None = None,
    iterations: int = 40,
    restarts: int = 64,
    seed: int = 0,
) -> Tensor:
    """The private images (N, C, H, W), or all their negatives, from intra-InstaHide encodings (T, C, H, W).

    The signs carry nothing: ``a = |2e - 1|`` is left of each encoding, and ``a = |W x|`` is solved for every pixel of
    the N images ``x`` by guessing the signs of ``W x``, least squares, and guessing again. ``restarts`` starts are
    drawn and the best fit is kept. ``weights`` W (T, N) come from the mixed labels. At each pixel ``x`` and ``-x`` fit
    alike. With ``like`` (M, C, H, W), images like the private ones, the signs are taken that make the images most
    likely under a normal distribution fitted to those, and no negative is left open; without, those that make
    neighbours alike. Raises ValueError for shapes that do not fit.

    Known as: InstaHide decoding (attack). Needs many encodings of the same images, and who is in them with
    which weight.
    Source: after Carlini et al. (2021), who do not know the weights. Taught in: defenses/obscuration.
    """
    _check_weights(encodings, weights)
    if like is not None and (like.shape[1:] != encodings.shape[1:] or len(like) < 2):
        raise ValueError(
            f"expected at least two images like the private ones, {tuple(encodings.shape[1:])} each; got "
            f"{tuple(like.shape)}."
        )
    sizes, mixing = (2 * encodings.double() - 1).abs().flatten(1), weights.to(encodings.device).double()
    count = (restarts, mixing.shape[1], sizes.shape[1])
    drawn = torch.rand(count, generator=seeded_generator(seed), dtype=torch.float64, device="cpu")
    x = 2 * drawn.to(mixing.device) - 1
    inverse = torch.linalg.pinv(mixing)
    for _ in range(iterations):
        x = (inverse @ ((mixing @ x).sign() * sizes)).clamp(-1, 1)
    best = _best(x, mixing, sizes).reshape(-1, *encodings.shape[1:])
    return ((_align(best) if like is None else _align_like(best, 2 * like.to(best) - 1)) + 1) / 2


def decode_cross(encodings: Tensor, weights: Tensor, *, k: int, largest: float) -> Tensor:
    """The private images (N, C, H, W), or all their negatives, from cross-InstaHide encodings (T, C, H, W).

    The strangers are noise of mean zero, ``a = |s w x + n|``, so that the expected ``a ** 2`` is linear in the products
    ``x_i x_j``: least squares gives those, and the leading eigenvector of their matrix the ``x``, pixel by pixel.
    ``weights`` w (T, N) are the mixed labels, which sum to one; the share s of the client's images is unknown, but its
    mean square follows from the public ``k`` and ``largest``. Raises ValueError for shapes that do not fit.

    Taught in: defenses/obscuration.
    """
    _check_weights(encodings, weights)
    squares, w = (2 * encodings.double() - 1).square().flatten(1), weights.to(encodings.device).double()
    first, second = torch.triu_indices(w.shape[1], w.shape[1], device=w.device)
    factors = torch.where(first == second, 1.0, 2.0) * w[:, first] * w[:, second]
    found = _least_squares(torch.cat([factors, w], dim=1), squares)[: len(first)].T
    products = torch.zeros(len(found), w.shape[1], w.shape[1], dtype=torch.float64, device=w.device)
    products[:, first, second] = products[:, second, first] = found
    values, vectors = torch.linalg.eigh(products)
    own = mixing_weights(10_000, k, largest, seeded_generator(0))[:, : k - k // 2].sum(dim=1)
    x = vectors[..., -1] * (values[:, -1:].clamp(min=0) / own.square().mean().to(w.device)).sqrt()
    return (_align(x.T.clamp(-1, 1).reshape(-1, *encodings.shape[1:])) + 1) / 2


def _least_squares(matrix: Tensor, values: Tensor) -> Tensor:
    """The solution, where the values lie. The CPU's solver takes matrices of any rank, others do not."""
    return torch.linalg.lstsq(matrix.cpu(), values.cpu()).solution.to(values.device)


def _best(x: Tensor, mixing: Tensor, sizes: Tensor) -> Tensor:
    """For each pixel the restart of ``x`` (R, N, D) that explains ``sizes`` (T, D) best: (N, D)."""
    left = ((mixing @ x).abs() - sizes).square().sum(dim=1)
    return x[left.argmin(dim=0), :, torch.arange(x.shape[2], device=x.device)].T


def _align(x: Tensor) -> Tensor:
    """Choose the sign of each pixel, common to the images (N, C, H, W), so that neighbours look alike.

    The signs are those of the leading eigenvector of the neighbours' products, channel and channel being neighbours
    too. What is left is one sign for everything.
    """
    channels, height, width = x.shape[1:]
    rows = torch.arange(channels * height * width, device=x.device).reshape(channels, height, width)
    pairs = [(rows[:, 1:], rows[:, :-1]), (rows[..., 1:], rows[..., :-1]), (rows[1:], rows[:-1])]
    one, other = (torch.cat([pair[side].flatten() for pair in pairs]) for side in (0, 1))
    flat = x.flatten(1)
    alike = (flat[:, one] * flat[:, other]).sum(dim=0)
    products = x.new_zeros(flat.shape[1], flat.shape[1])
    products[one, other] = products[other, one] = alike
    vector = torch.linalg.eigh(products).eigenvectors[:, -1]
    signs = torch.where(vector < 0, -1.0, 1.0)
    return x * signs.reshape(1, channels, height, width)


def _align_like(x: Tensor, like: Tensor) -> Tensor:
    """Choose the sign of each pixel, common to the images ``x`` (N, C, H, W), by what images ``like`` them look like.

    With mean a and precision P of ``like``, the signs s are to minimize the sum of ``(s x - a) P (s x - a)`` over the
    images. One sign after another is set to its better value, until none changes.
    """
    flat, own = x.flatten(1), like.flatten(1)
    mean, spread = own.mean(dim=0), torch.cov(own.T)
    precision = torch.linalg.inv(
        spread + 0.01 * torch.eye(len(mean), dtype=x.dtype, device=x.device)
    )  # some pixels never change
    pairs, single = precision * (flat.T @ flat), flat.sum(dim=0) * (precision @ mean)
    signs = torch.where(flat.sum(dim=0) * mean < 0, -1.0, 1.0).to(x)
    for _ in range(len(mean)):
        before = signs.clone()
        for pixel in range(len(mean)):
            others = pairs[pixel] @ signs - pairs[pixel, pixel] * signs[pixel]
            signs[pixel] = -1.0 if others > single[pixel] else 1.0
        if torch.equal(signs, before):
            break
    return x * signs.reshape(1, *x.shape[1:])


def _check_weights(encodings: Tensor, weights: Tensor) -> None:
    if encodings.ndim != 4 or weights.ndim != 2 or len(encodings) != len(weights):
        raise ValueError(
            f"expected encodings (T, C, H, W) and weights (T, N), got {tuple(encodings.shape)} and "
            f"{tuple(weights.shape)}: one row of weights for each encoding."
        )
