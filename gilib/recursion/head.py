"""The logit equation: where the recursion starts when no bias gradient gives the loss's derivative away.

For one sample the gradient of the last layer is ``∇W = k hᵀ`` with ``k = p - y``. Its direction is known, its split
into k and h is not: one unknown number is left, and one scalar equation for it.
"""

import math
from dataclasses import dataclass

import torch
from scipy.special import lambertw
from torch import Tensor

from gilib.federated import Update
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


def logit_roots(product: float) -> list[float]:
    """All u with ``-u / (1 + e^u) = product``, the smaller in absolute value first.

    One for a positive product. Two for a negative one, which meet at u = 1.278, where the product is smallest, -0.2785;
    below that there is none, and the meeting point is returned. With ``v = product`` the solutions are
    ``-v - W(v e^-v)`` with the two real branches of Lambert's function W.

    Source: the equation is that of Zhu & Blaschko (2021), who solve it by gradient descent. Taught in: recursion/rgap.

    >>> [round(u, 3) for u in logit_roots(-0.2)]
    [0.545, 2.396]
    """
    turning = 1 + complex(lambertw(math.exp(-1))).real
    if product <= 1 - turning:
        return [turning]
    branches = (0, -1) if product < 0 else (0,)
    return [-product - complex(lambertw(product * math.exp(-product), branch)).real for branch in branches]


def starts(layer: LayerShape, update: Update) -> list[Start]:
    """All ways to begin that agree with the gradient of the last layer.

    A bias gradient is k itself. Without one, three or more logits leave one way, in closed form. One logit (logistic
    loss) or two leave up to two for each label; a label that the update shares is used, otherwise both are tried.
    Raises ValueError where the gradient of the last layer is zero.
    """
    gradient = update.gradients[layer.parameter].double()
    if not bool(gradient.any()):
        raise ValueError(
            f"the gradient of the last layer, {layer.name!r}, is zero, so nothing can be recovered. A model with a "
            "single logit needs loss=gilib.federated.logistic."
        )
    if layer.bias is not None:
        k = update.gradients[f"{layer.name}.bias"].double()
        label = int(k.argmin()) if len(k) > 1 else int(k < 0)
        return [_start(k, label, None, residual=0.0, condition=1.0)]
    weight = layer.weight.flatten(1)
    if len(weight) > 2:
        return [_from_many(weight, gradient)]
    labels = (0, 1) if update.labels is None else (int(update.labels[0]),)
    product = float((gradient * weight).sum())
    return [_from_root(u, label, len(weight), product) for label in labels for u in logit_roots(product)]


def _from_root(u: float, label: int, logits: int, product: float) -> Start:
    """One or two logits: u is the margin by which the label's logit wins, so ``k = -1 / (1 + e^u)`` at the label."""
    wrong = 1 / (1 + math.exp(u))
    sign = torch.tensor([2.0 * label - 1] if logits == 1 else [1.0 - 2 * label, 2.0 * label - 1], dtype=torch.float64)
    bend = abs(1 - u * (1 - wrong))  # d log(product) / d log(u)
    residual = abs(-u * wrong - product) / abs(product) if product else 0.0
    z = (u * sign).reshape(-1, 1, 1) if logits == 1 else None
    return _start(-sign * wrong, label, z, residual=residual, condition=1 / bend if bend else math.inf)


def _from_many(weight: Tensor, gradient: Tensor) -> Start:
    """Three or more logits: the entries of k beside the label's are the probabilities, and their logarithms the logits.

    Up to a factor, k is the left singular vector of the gradient. Its largest entry is the label's, ``-(1 - p_y)``:
    the others add up to ``1 - p_y``. So ``r_j = p_j / (1 - p_y)`` is known, ``1 - p_y`` is not. As ``h`` is known up to
    that factor, so are the logits, ``a_j / (1 - p_y)``. But ``log r_j`` is the logit up to a constant. So ``log r``
    over ``a`` is a line, and its slope is what was missing. A few Gauss-Newton steps on ``softmax(t a) - y = r / t``
    then remove the rounding that logits close to each other have magnified.
    """
    direction = torch.linalg.svd(gradient, full_matrices=False)[0][:, 0]
    label = int(direction.abs().argmax())
    target = torch.eye(len(direction), dtype=direction.dtype)[label]
    ratios = direction / -direction[label]
    a = weight @ (gradient.T @ ratios) / ratios.square().sum()
    t = _slope(a, ratios.clamp_min(torch.finfo(a.dtype).tiny).log(), trust=(ratios + target).square())
    for _ in range(8):
        p = torch.softmax(t * a, dim=0)
        missed, change = p - target - ratios / t, p * (a - p @ a) + ratios / t**2
        t = t - float(missed @ change / change.square().sum())
    k = ratios / t
    missed = torch.softmax(t * a, dim=0) - target - k
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
