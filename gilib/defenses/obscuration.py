"""Data obscuration: the client changes its batch before it trains, so that the gradient speaks of other images.

MixUp and InstaHide train on weighted means of several images, and automatic transformation search on distorted ones.
What undoes them stands beside them, as functions of tensors: ``unmix``, ``decode`` and ``decode_cross`` take the
encodings that a gradient inversion returned over many rounds, ``undo`` takes the distorted images.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gilib.data import Batch
from gilib.federated import Client, Defense, as_function, as_targets, seeded_generator

__all__ = [
    "Mixing",
    "Scored",
    "Transformation",
    "Transforming",
    "apply",
    "decode",
    "decode_cross",
    "instahide",
    "mixup",
    "privacy_score",
    "search_policy",
    "transformations",
    "undo",
    "unmix",
    "usability_score",
]


@dataclass(frozen=True)
class Mixing(Defense):
    """Train on weighted means of ``k`` images, and with ``flip`` change the sign of every pixel at random.

    Each image of the batch is mixed with partners from ``pool``, the client's own data, or without it from the batch.
    With ``strangers`` (P, C, H, W), public images, half of the ``k`` (rounded down) are drawn from those. Labels are
    mixed as the client's images are, each row scaled to sum to one over ``classes``. No weight exceeds ``largest``.
    Public are the settings and the strangers, never pool, partners, weights or signs. Use ``mixup`` and ``instahide``.
    """

    k: int
    classes: int
    largest: float = 0.65
    flip: bool = False
    pool: Batch | None = field(default=None, repr=False)
    strangers: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.k < 2 or not 1 / self.k < self.largest <= 1:
            raise ValueError(
                f"expected k of at least 2 and largest above 1/k, at most 1; got k={self.k}, largest={self.largest}."
            )
        if self.strangers is not None and len(self.strangers) < self.k - self.own:
            raise ValueError(f"mixing needs {self.k - self.own} public images; got {len(self.strangers)}: add some.")

    @property
    def name(self) -> str:
        """The name of the defense, with signs flipped or not."""
        return "instahide" if self.flip else "mixup"

    @property
    def public(self) -> Mapping[str, object]:
        """Settings and public images."""
        return {"k": self.k, "largest": self.largest, "strangers": self.strangers}

    @property
    def own(self) -> int:
        """How many of the ``k`` images are the client's."""
        return self.k if self.strangers is None else self.k - self.k // 2

    def obscure(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """The encodings of a batch and their mixed labels (B, classes).

        Raises ValueError where there are not enough images to mix.
        """
        pool = batch if self.pool is None else self.pool
        weights = _weights(len(batch), self.k, self.largest, generator)
        targets, labels = as_targets(batch.labels, self.classes), as_targets(pool.labels, self.classes)
        images = _column(weights[:, 0]) * batch.images.double()
        targets = weights[:, :1] * targets
        for row in range(len(batch)):
            partners = _others(pool.images, batch.images[row], self.own - 1, generator)
            share = weights[row, 1 : self.own]
            images[row] += torch.tensordot(share, pool.images[partners].double(), dims=1)
            targets[row] += share @ labels[partners]
        if self.strangers is not None:
            for row in range(len(batch)):
                drawn = torch.randperm(len(self.strangers), generator=generator)[: self.k - self.own]
                images[row] += torch.tensordot(weights[row, self.own :], self.strangers[drawn].double(), dims=1)
        if self.flip:
            signs = torch.rand(images.shape, generator=generator, dtype=torch.float64) < 0.5
            images = torch.where(signs, 1 - images, images)
        return Batch(images.clamp(0, 1), targets / targets.sum(dim=1, keepdim=True))


def mixup(k: int = 2, *, classes: int, largest: float = 0.65, pool: Batch | None = None) -> Mixing:
    """Train on ``sum_i w_i x_i`` with labels ``sum_i w_i y_i`` instead of images and labels.

    Source: Zhang et al. (2018); as a defense, with the bound on the largest weight, Huang et al. (2021). Taught in:
    defenses/obscuration.
    """
    return Mixing(k, classes, largest, pool=pool)


def instahide(
    k: int = 4, *, classes: int, largest: float = 0.65, pool: Batch | None = None, public: Tensor | None = None
) -> Mixing:
    """MixUp, and then every pixel of ``2x - 1`` times a sign of its own, drawn afresh each time.

    On images in [0, 1] the flip takes ``x`` to ``1 - x``. Without ``public`` all images are the client's (intra), with
    ``public`` images (P, C, H, W) half of them are strangers (cross).

    Source: Huang et al. (2020). Taught in: defenses/obscuration.
    """
    return Mixing(k, classes, largest, flip=True, pool=pool, strangers=public)


def unmix(encodings: Tensor, weights: Tensor) -> Tensor:
    """The private images (N, C, H, W) from mixtures (T, C, H, W) and their ``weights`` (T, N), by least squares.

    Exact for MixUp with ``weights`` of rank N, which takes T of at least N. Raises ValueError for shapes that do not
    fit. Taught in: defenses/obscuration.
    """
    _check_weights(encodings, weights)
    flat = torch.linalg.lstsq(weights.double(), encodings.double().flatten(1)).solution
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

    Source: after Carlini et al. (2021), who do not know the weights. Taught in: defenses/obscuration.
    """
    _check_weights(encodings, weights)
    if like is not None and (like.shape[1:] != encodings.shape[1:] or len(like) < 2):
        raise ValueError(
            f"expected at least two images like the private ones, {tuple(encodings.shape[1:])} each; got "
            f"{tuple(like.shape)}."
        )
    sizes, mixing = (2 * encodings.double() - 1).abs().flatten(1), weights.double()
    count = (restarts, mixing.shape[1], sizes.shape[1])
    x = 2 * torch.rand(count, generator=seeded_generator(seed), dtype=torch.float64) - 1
    inverse = torch.linalg.pinv(mixing)
    for _ in range(iterations):
        x = (inverse @ ((mixing @ x).sign() * sizes)).clamp(-1, 1)
    best = _best(x, mixing, sizes).reshape(-1, *encodings.shape[1:])
    return ((_align(best) if like is None else _align_like(best, 2 * like.double() - 1)) + 1) / 2


def decode_cross(encodings: Tensor, weights: Tensor, *, k: int, largest: float) -> Tensor:
    """The private images (N, C, H, W), or all their negatives, from cross-InstaHide encodings (T, C, H, W).

    The strangers are noise of mean zero, ``a = |s w x + n|``, so that the expected ``a ** 2`` is linear in the products
    ``x_i x_j``: least squares gives those, and the leading eigenvector of their matrix the ``x``, pixel by pixel.
    ``weights`` w (T, N) are the mixed labels, which sum to one; the share s of the client's images is unknown, but its
    mean square follows from the public ``k`` and ``largest``. Raises ValueError for shapes that do not fit.

    Taught in: defenses/obscuration.
    """
    _check_weights(encodings, weights)
    squares, w = (2 * encodings.double() - 1).square().flatten(1), weights.double()
    first, second = torch.triu_indices(w.shape[1], w.shape[1])
    factors = torch.where(first == second, 1.0, 2.0) * w[:, first] * w[:, second]
    found = torch.linalg.lstsq(torch.cat([factors, w], dim=1), squares).solution[: len(first)].T
    products = torch.zeros(len(found), w.shape[1], w.shape[1], dtype=torch.float64)
    products[:, first, second] = products[:, second, first] = found
    values, vectors = torch.linalg.eigh(products)
    own = _weights(10_000, k, largest, seeded_generator(0))[:, : k - k // 2].sum(dim=1)
    x = vectors[..., -1] * (values[:, -1:].clamp(min=0) / own.square().mean()).sqrt()
    return (_align(x.T.clamp(-1, 1).reshape(-1, *encodings.shape[1:])) + 1) / 2


def _best(x: Tensor, mixing: Tensor, sizes: Tensor) -> Tensor:
    """For each pixel the restart of ``x`` (R, N, D) that explains ``sizes`` (T, D) best: (N, D)."""
    left = ((mixing @ x).abs() - sizes).square().sum(dim=1)
    return x[left.argmin(dim=0), :, torch.arange(x.shape[2])].T


def _align(x: Tensor) -> Tensor:
    """Choose the sign of each pixel, common to the images (N, C, H, W), so that neighbours look alike.

    The signs are those of the leading eigenvector of the neighbours' products, channel and channel being neighbours
    too. What is left is one sign for everything.
    """
    channels, height, width = x.shape[1:]
    rows = torch.arange(channels * height * width).reshape(channels, height, width)
    pairs = [(rows[:, 1:], rows[:, :-1]), (rows[..., 1:], rows[..., :-1]), (rows[1:], rows[:-1])]
    one, other = (torch.cat([pair[side].flatten() for pair in pairs]) for side in (0, 1))
    flat = x.flatten(1)
    alike = (flat[:, one] * flat[:, other]).sum(dim=0)
    vector = torch.ones(flat.shape[1], dtype=x.dtype)
    products = torch.zeros(len(vector), len(vector), dtype=x.dtype)
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
    precision = torch.linalg.inv(spread + 0.01 * torch.eye(len(mean), dtype=x.dtype))  # some pixels never change
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


def _weights(count: int, k: int, largest: float, generator: torch.Generator) -> Tensor:
    """Rows (count, k) that sum to one, from a Dirichlet distribution with 3 for the first and 1 for every other."""
    weights = torch.ones(count, k, dtype=torch.float64)
    while bool((over := weights.amax(dim=1) > largest).any()):
        drawn = torch.empty(int(over.sum()), k + 2, dtype=torch.float64).exponential_(generator=generator)
        gamma = torch.cat([drawn[:, :3].sum(dim=1, keepdim=True), drawn[:, 3:]], dim=1)
        weights[over] = gamma / gamma.sum(dim=1, keepdim=True)
    return weights


def _others(pool: Tensor, image: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` different indices into ``pool``, none of them of ``image`` itself."""
    different = (pool != image).flatten(1).any(dim=1).nonzero()[:, 0]
    if len(different) < count:
        raise ValueError(f"mixing needs {count} other images, the pool has {len(different)}: lower k, or widen pool.")
    return different[torch.randperm(len(different), generator=generator)[:count]]


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _check_weights(encodings: Tensor, weights: Tensor) -> None:
    if encodings.ndim != 4 or weights.ndim != 2 or len(encodings) != len(weights):
        raise ValueError(
            f"expected encodings (T, C, H, W) and weights (T, N), got {tuple(encodings.shape)} and "
            f"{tuple(weights.shape)}: one row of weights for each encoding."
        )


@dataclass(frozen=True)
class Transformation:
    """One distortion of images (B, C, H, W) in [0, 1] to the same shape and range, by ``kind`` and ``strength``.

    - "shift right", "shift down", "shear": by ``strength`` times the side, filled with black.
    - "rotate": by ``strength`` degrees, filled with black.
    - "contrast": distances from grey times ``strength``, at most 1.
    - "posterize": ``strength`` grey levels, at least 2.
    - "cutout": a black square in the middle, ``strength`` times as wide as the image.

    Raises ValueError for another kind. Taught in: defenses/obscuration.
    """

    kind: str
    strength: float

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"expected one of {sorted(_KINDS)} as kind, got {self.kind!r}.")

    def __call__(self, images: Tensor) -> Tensor:
        """The distorted images."""
        return _KINDS[self.kind](images, self.strength)


Policy = Sequence[Transformation]


@dataclass(frozen=True)
class Transforming(Defense):
    """Train on images that a ``policy`` of transformations has distorted, one after another. The policy is public."""

    policy: tuple[Transformation, ...]

    @property
    def name(self) -> str:
        """The name of the defense."""
        return "transformations"

    @property
    def public(self) -> Mapping[str, object]:
        """The policy."""
        return {"policy": self.policy}

    def obscure(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """The distorted batch, with its own labels."""
        return Batch(apply(self.policy, batch.images), batch.labels)


def transformations(*policy: Transformation) -> Transforming:
    """Distort every image by the transformations of ``policy`` in their order.

    Source: Gao et al. (2021), whose search chooses the policy. Taught in: defenses/obscuration.
    """
    return Transforming(policy)


def apply(policy: Policy, images: Tensor) -> Tensor:
    """The images (B, C, H, W) after all transformations of the policy."""
    for transformation in policy:
        images = transformation(images)
    return images


def undo(policy: Policy, images: Tensor, *, start: Tensor | None = None, ridge: float = 1e-3) -> Tensor:
    """The images (B, C, H, W) before a known policy, from those after it, by regularized least squares.

    Every kind but posterizing, which is passed over, is an affine map of the pixels. Its matrix is read off what it
    does to single pixels. What the policy destroyed stays as in ``start`` (C, H, W), grey unless given.

    Taught in: defenses/obscuration.
    """
    affine = [part for part in policy if part.kind != "posterize"]
    height, width = images.shape[-2:]
    size = height * width
    basis = torch.eye(size, dtype=torch.float64).reshape(size, 1, height, width)
    matrix = (apply(affine, basis) - apply(affine, torch.zeros_like(basis))).reshape(size, size)  # row: one pixel's map
    first = torch.full_like(images.double(), 0.5) if start is None else start.double().expand_as(images)
    left = (images.double() - apply(affine, first)).flatten(2)
    gram = matrix @ matrix.T + ridge * torch.eye(size, dtype=torch.float64)
    change = torch.linalg.solve(gram, matrix @ left.reshape(-1, size).T).T
    return (first + change.reshape(images.shape)).clamp(0, 1)


def privacy_score(model: nn.Module, policy: Policy, batch: Batch, *, points: int = 11, seed: int = 0) -> float:
    """How easily gradient matching finds the way from noise to the distorted images, 1 for very easily. Low is good.

    The area under the cosine between the gradients of ``T(x)`` and of the mixtures ``(1 - s) noise + s T(x)`` for s
    from 0 to 1 (trapezoidal rule at ``points``), averaged over the parameters and over the images of ``batch``.

    Source: Gao et al. (2021), as in the authors' code. Taught in: defenses/obscuration.
    """
    client, generator, total = Client(model), seeded_generator(seed), 0.0
    for image, label in zip(apply(policy, batch.images.double()), batch.labels, strict=True):
        noise = torch.rand(image.shape, generator=generator, dtype=torch.float64)
        steps = torch.linspace(0, 1, points, dtype=torch.float64)
        target = client.update(Batch(image[None], label[None])).gradients
        values = []
        for step in steps:
            found = client.update(Batch(((1 - step) * noise + step * image)[None], label[None])).gradients
            cosines = [nn.functional.cosine_similarity(found[n].flatten(), target[n].flatten(), dim=0) for n in target]
            values.append(torch.stack(cosines).mean())
        total += float(torch.trapezoid(torch.stack(values), steps))
    return total / len(batch)


def usability_score(model: nn.Module, policy: Policy, images: Tensor) -> float:
    """How well an untrained ``model`` tells the distorted ``images`` apart, without training it. High is good.

    ``-sum(log(v + e) + 1 / (v + e))`` over the eigenvalues v of the correlations between the derivatives of the summed
    logits at the images, e being 1e-5.

    Source: Gao et al. (2021), as in the authors' code. Taught in: defenses/obscuration.
    """
    forward, parameters = as_function(model)
    inputs = apply(policy, images.double())
    slopes = torch.func.grad(lambda x: forward(parameters, x).sum())(inputs).flatten(1)
    values = torch.linalg.eigvalsh(torch.corrcoef(slopes)) + 1e-5
    return float(-(values.log() + 1 / values).sum())


@dataclass(frozen=True)
class Scored:
    """A policy of the search and its two scores."""

    policy: tuple[Transformation, ...]
    privacy: float
    usability: float


def search_policy(
    trained: nn.Module,
    untrained: nn.Module,
    batch: Batch,
    *,
    candidates: Sequence[Transformation],
    count: int = 30,
    longest: int = 3,
    seed: int = 0,
) -> list[Scored]:
    """Draw ``count`` policies of one to ``longest`` of the candidates and score them, the best for privacy first.

    Only the half with the higher usability is returned. Privacy is scored on a ``trained`` model, usability on an
    ``untrained`` one. Raises ValueError for too few candidates.

    Source: Gao et al. (2021), with our own way of choosing. Taught in: defenses/obscuration.
    """
    if len(candidates) < longest:
        raise ValueError(f"policies of up to {longest} parts need as many candidates; got {len(candidates)}.")
    generator, scored = seeded_generator(seed), []
    for _ in range(count):
        length = int(torch.randint(1, longest + 1, (1,), generator=generator))
        chosen = torch.randperm(len(candidates), generator=generator)[:length].tolist()
        policy = tuple(candidates[index] for index in chosen)
        usability = usability_score(untrained, policy, batch.images)
        scored.append(Scored(policy, privacy_score(trained, policy, batch), usability))
    usable = sorted(scored, key=lambda one: -one.usability)[: (count + 1) // 2]
    return sorted(usable, key=lambda one: one.privacy)


def _warp(images: Tensor, matrix: list[list[float]]) -> Tensor:
    """Read every pixel at its place times ``matrix`` (2, 3), places being in [-1, 1]; outside is black."""
    theta = torch.tensor(matrix, dtype=images.dtype).expand(len(images), 2, 3)
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False).clamp(0, 1)


def _rotate(images: Tensor, degrees: float) -> Tensor:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _warp(images, [[cos, -sin, 0.0], [sin, cos, 0.0]])


def _cutout(images: Tensor, share: float) -> Tensor:
    mask = torch.ones_like(images)
    height, width = images.shape[-2:]
    tall, wide = round(share * height), round(share * width)
    top, left = (height - tall) // 2, (width - wide) // 2
    mask[..., top : top + tall, left : left + wide] = 0
    return images * mask


_KINDS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "shift right": lambda images, share: _warp(images, [[1.0, 0.0, -2 * share], [0.0, 1.0, 0.0]]),
    "shift down": lambda images, share: _warp(images, [[1.0, 0.0, 0.0], [0.0, 1.0, -2 * share]]),
    "shear": lambda images, share: _warp(images, [[1.0, share, 0.0], [0.0, 1.0, 0.0]]),
    "rotate": _rotate,
    "contrast": lambda images, factor: 0.5 + min(factor, 1.0) * (images - 0.5),
    "posterize": lambda images, levels: (images * (levels - 1)).round() / (levels - 1),
    "cutout": _cutout,
}
