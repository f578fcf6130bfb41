"""The logit equation: where the recursion starts when no bias gradient gives the loss's derivative away.

For one sample the gradient of the last layer is ``∇W = k hᵀ`` with ``k = p - y``. Its direction is known, its split
into k and h is not: one unknown number is left, and one scalar equation for it.
"""

import math
from dataclasses import dataclass, replace

import torch
from scipy.special import lambertw
from torch import Tensor

from gilib.federated import Update, error_scale
from gilib.recursion.door import on_cpu
from gilib.recursion.network import LayerShape
from gilib.recursion.reconstruction import LayerReport


@dataclass(frozen=True, eq=False)
class Start:
    """One way to begin: ``k`` (K, 1, 1), the derivative of the loss by the logits, and the ``label`` it belongs to.

    ``z`` (K, 1, 1) are the logits without the bias, None where k does not need them. ``report`` is on the one unknown
    number; its ``condition`` is how much a relative error of the gradient grows in it.
    """

    k: Tensor
    label: int
    z: Tensor | None
    report: LayerReport


def logit_roots(product: float, shift: float = 0.0) -> list[float]:
    """All u with ``-(u - shift) / (1 + e^u) = product``, the smaller in absolute value first.

    One for a positive product. Two for a negative one, which meet where the product is smallest, without a shift at
    u = 1.278, where it is -0.2785; below that there is none, and the meeting point is returned. With ``v = product``
    and ``c = shift`` the solutions are ``c - v - W(v e^(c - v))`` with the two real branches of Lambert's function W.

    Source: the equation is that of Zhu & Blaschko (2021), who solve it by gradient descent. Taught in: recursion/rgap.

    >>> [round(u, 3) for u in logit_roots(-0.2)]
    [0.545, 2.396]
    """
    turning = 1 + shift + complex(lambertw(math.exp(-1 - shift))).real
    if product <= 1 + shift - turning:
        return [turning]
    branches = (0, -1) if product < 0 else (0,)
    factor = product * math.exp(shift - product)
    return [shift - product - complex(lambertw(factor, branch)).real for branch in branches]


def starts(layer: LayerShape, update: Update) -> list[Start]:
    """All ways to begin that agree with the gradient of the last layer.

    A bias gradient is k itself. Without one, because there is no bias or because it is frozen and so known, three or
    more logits leave one way, in closed form. One logit (logistic loss) or two leave up to two for each label; a label
    that the update shares is used, otherwise both are tried. Multiples of the loss are allowed for. Raises ValueError
    where the gradient of the last layer is zero, and, without a bias gradient, for a loss that is no cross-entropy and
    for a clipped gradient.
    """
    gradient = on_cpu(update.gradients[layer.parameter])
    if not bool(gradient.any()):
        raise ValueError(
            f"the gradient of the last layer, {layer.name!r}, is zero, so nothing can be recovered. A model with a "
            "single logit needs loss=gilib.federated.logistic."
        )
    if layer.bias is not None and f"{layer.name}.bias" in update.gradients:
        k = on_cpu(update.gradients[f"{layer.name}.bias"])
        label = int(k.argmin()) if len(k) > 1 else int(k < 0)
        return [_start(k, label, None, residual=0.0, condition=1.0)]
    weight, scale = layer.weight.flatten(1), _scale(layer, update)
    gradient = gradient.reshape(weight.shape) / scale
    bias = torch.zeros_like(weight[:, 0]) if layer.bias is None else layer.bias
    if len(weight) > 2:
        return [_times(_from_many(weight, bias, gradient), scale)]
    labels = (0, 1) if update.labels is None else (int(update.labels[0]),)
    product = float((gradient * weight).sum())
    found = []
    for label in labels:
        shift = float(bias[label] - bias[1 - label]) if len(bias) == 2 else (2.0 * label - 1) * float(bias)
        found += [_from_root(u, label, bias, product, shift) for u in logit_roots(product, shift)]
    return [_times(one, scale) for one in found]


def _scale(layer: LayerShape, update: Update) -> float:
    """The number c in ``k = c (p - y)``, without which there is no logit equation."""
    name, missing = layer.name, "has no bias" if layer.bias is None else "has its bias frozen"
    scale = error_scale(update.loss, len(layer.weight), samples=1, like=layer.weight)
    if scale is None or (update.labels is not None and update.labels.ndim != 1):
        raise ValueError(
            f"the last layer, {name!r}, {missing} ('{name}.bias'), so the logits have to follow from the loss: that "
            "works for cross-entropy or the logistic loss, times a constant, with one class an image."
        )
    if update.local.clip is not None:
        raise ValueError(
            f"the last layer, {name!r}, {missing} ('{name}.bias'), so the size of its gradient has to be known, and "
            "clipping changed it."
        )
    return scale * update.weight


def _times(start: Start, scale: float) -> Start:
    return replace(start, k=scale * start.k)


def _from_root(u: float, label: int, bias: Tensor, product: float, shift: float) -> Start:
    """One or two logits: u is the margin by which the label's logit wins, so ``k = -1 / (1 + e^u)`` at the label.

    ``shift`` is what a known bias adds to the margin.
    """
    wrong = 1 / (1 + math.exp(u))
    signs = [2.0 * label - 1] if len(bias) == 1 else [1.0 - 2 * label, 2.0 * label - 1]
    sign = torch.tensor(signs, dtype=torch.float64, device="cpu")
    share = u / (u - shift) if u != shift else 1.0
    bend = abs(share - u * (1 - wrong))  # d log(product) / d log(u)
    residual = abs(-(u - shift) * wrong - product) / abs(product) if product else 0.0
    z = (u * sign - bias).reshape(-1, 1, 1) if len(bias) == 1 else None
    return _start(-sign * wrong, label, z, residual=residual, condition=1 / bend if bend else math.inf)


def _from_many(weight: Tensor, bias: Tensor, gradient: Tensor) -> Start:
    """Three or more logits: the entries of k beside the label's are the probabilities, and their logarithms the logits.

    Up to a factor, k is the left singular vector of the gradient. Its largest entry is the label's, ``-(1 - p_y)``:
    the others add up to ``1 - p_y``. So ``r_j = p_j / (1 - p_y)`` is known, ``1 - p_y`` is not. As ``h`` is known up to
    that factor, so are the logits less the bias, ``a_j / (1 - p_y)``. But ``log r_j`` is the logit up to a constant. So
    ``log r - b`` over ``a`` is a line, and its slope is what was missing. A few Gauss-Newton steps on
    ``softmax(t a + b) - y = r / t`` then remove the rounding that logits close to each other have magnified.
    """
    direction = torch.linalg.svd(gradient, full_matrices=False)[0][:, 0]
    label = int(direction.abs().argmax())
    target = torch.eye(len(direction), dtype=direction.dtype, device="cpu")[label]
    ratios = direction / -direction[label]
    a = weight @ (gradient.T @ ratios) / ratios.square().sum()
    logarithms = ratios.clamp_min(torch.finfo(a.dtype).tiny).log()
    t = _slope(a, logarithms - bias, trust=(ratios + target).square())
    for _ in range(8):
        p = torch.softmax(t * a + bias, dim=0)
        missed, change = p - target - ratios / t, p * (a - p @ a) + ratios / t**2
        t = t - float(missed @ change / change.square().sum())
    k = ratios / t
    missed = torch.softmax(t * a + bias, dim=0) - target - k
    condition = float(k.norm() / (t * change.norm()))
    residual = float(missed.norm() / k.norm())
    return _start(k, label, (a * t).reshape(-1, 1, 1), residual=residual, condition=max(1.0, condition))


def _slope(x: Tensor, y: Tensor, *, trust: Tensor) -> float:
    """The slope of the line ``y`` over ``x``, each point counting by its ``trust``: small entries are least precise."""
    trust = trust / trust.sum()
    centred = x - trust @ x
    return float((trust * centred * y).sum() / (trust * centred.square()).sum())


def _start(k: Tensor, label: int, z: Tensor | None, *, residual: float, condition: float) -> Start:
    report = LayerReport("logit", 1, max(1, len(k) - 1), 1, residual, condition)
    return Start(k.reshape(-1, 1, 1), label, z, report)
