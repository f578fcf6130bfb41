"""A graph convolutional network that takes packed graphs, as `gilib.data.GraphBatch` packs them."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from gilib.models import blank_linear, draw_weights


class GCN(nn.Module):
    """Graph convolutions, the mean over nodes, and a linear layer: see `gcn`."""

    def __init__(self, features: int, classes: int, *, width: int, depth: int) -> None:
        super().__init__()
        widths = (features, *[width] * depth)
        self.layers = nn.ModuleList(blank_linear(a, b, bias=False) for a, b in pairwise(widths))
        self.activation = nn.GELU()
        self.linear = blank_linear(width, classes)

    def forward(self, graphs: Tensor) -> Tensor:
        """The logits (B, classes) of graphs (B, n, f + n)."""
        nodes = graphs.shape[-2]
        hidden, mixing = graphs[..., :-nodes], normalised(graphs[..., -nodes:])
        for layer in self.layers:
            hidden = self.activation(mixing @ layer(hidden))
        return self.linear(hidden.mean(dim=-2))


def normalised(adjacency: Tensor) -> Tensor:
    """The adjacency matrices (..., n, n) with loops, each entry divided by the roots of both nodes' degrees plus one.

    That is ``D^(-1/2) (A + I) D^(-1/2)``. Taught in: frontiers/discrete.
    """
    looped = adjacency + torch.eye(adjacency.shape[-1], dtype=adjacency.dtype, device=adjacency.device)
    scale = looped.sum(dim=-1).rsqrt()
    return scale[..., :, None] * looped * scale[..., None, :]


def gcn(features: int, classes: int = 2, *, width: int = 64, depth: int = 3, seed: int = 0) -> GCN:
    """A graph network: ``depth`` times ``GELU(normalised adjacency @ X @ W)`` without bias, mean over nodes, one layer.

    Takes graphs ``(B, n, features + n)``, of any n. Weights of the convolutions are uniform in ``±sqrt(6/fan_in)``, so
    that signals keep their size from layer to layer, those of the last layer in ``±1/sqrt(fan_in)``; in float64. Raises
    ValueError for sizes below one. Taught in: frontiers/discrete.
    """
    if min(features, classes, width, depth) < 1:
        raise ValueError(f"expected sizes of at least one, got {features=}, {classes=}, {width=}, {depth=}.")
    model = draw_weights(GCN(features, classes, width=width, depth=depth).double(), seed=seed)
    with torch.no_grad():
        for layer in model.layers.parameters():
            layer.mul_(math.sqrt(6))
    return model
