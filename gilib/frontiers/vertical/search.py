"""The third shot as a search: columns whose way through the first layers ends where the second shot says."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.frontiers.vertical.front import Dense
from gilib.recursion import LayerReport


@dataclass(frozen=True)
class Search:
    """How to search: steps of Adam with their ``rate``, a tenth of it in the last third, and the weight of ``tv``."""

    iterations: int = 400
    rate: float = 0.05
    tv: float = 1e-4


def search_front(
    dense: Dense, shape: tuple[int, int, int], inputs: Tensor, search: Search, *, name: str = "third shot"
) -> tuple[Tensor, LayerReport]:
    """The parts (N, C, H, W) in [0, 1] whose way through the front is nearest to ``inputs`` (N, in), from grey.

    The distance is squared, relative to the variance of the inputs, plus ``tv`` times the total variation. Takes any
    layers that run before the first fully connected one. The report has rank 0: a search does not know whether what it
    found is the only answer. ``residual`` is the distance that is left, relative to the norm of the inputs.

    Source: the third shot of Jin et al. (2021), without its match of all gradients. Taught in: frontiers/vertical.
    """
    front = nn.Sequential(*[part for _, part in dense.front]).double()
    x = torch.full((len(inputs), *shape), 0.5, dtype=torch.float64, device="cpu", requires_grad=True)
    optimizer, variance = torch.optim.Adam([x], lr=search.rate), inputs.var().clamp_min(1e-30)
    for step in range(search.iterations):
        optimizer.param_groups[0]["lr"] = search.rate * (0.1 if 3 * step > 2 * search.iterations else 1)
        with torch.enable_grad():
            far = (front(x).flatten(1) - inputs).square().mean() / variance
            rough = x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()
            loss = far + search.tv * rough
        [x.grad] = torch.autograd.grad(loss, [x])
        optimizer.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    with torch.no_grad():
        left = float((front(x).flatten(1) - inputs).norm() / inputs.norm())
    report = LayerReport(name, x[0].numel(), inputs.shape[1], 0, left, float("inf"))
    return x.detach(), report
