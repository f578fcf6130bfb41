"""Graphs whose nodes are of known kinds, and the span of a gradient."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gilib.data import GraphBatch

Edge = tuple[int, int]
Neighbours = tuple[int, ...]


@dataclass(frozen=True)
class Kinds:
    """The kinds of nodes that there are: their ``features`` (K, f), and how many neighbours each has, ``degrees``.

    That a node's kind gives its number of neighbours is an assumption, and part of the features that are agreed on.
    Raises ValueError for two kinds with the same features, and unless there is one degree of at least one for each.
    """

    features: Tensor
    degrees: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) != len(self.degrees) or min(self.degrees, default=0) < 1:
            raise ValueError(
                f"expected features (K, f) and K degrees of at least 1, got {tuple(self.features.shape)} and "
                f"{self.degrees}. A node without neighbours is a graph of its own."
            )
        if len(self.features.unique(dim=0)) != len(self.features):
            raise ValueError("expected kinds with different features; two are alike, and no gradient tells them apart.")


@dataclass(frozen=True)
class Graph:
    """Nodes by the number of their kind, and edges between them."""

    nodes: tuple[int, ...]
    edges: frozenset[Edge]

    def adjacency(self) -> Tensor:
        """The matrix (n, n) of zeros and ones."""
        found = torch.zeros(len(self.nodes), len(self.nodes), dtype=torch.float64, device="cpu")
        for one, other in self.edges:
            found[one, other] = found[other, one] = 1
        return found

    def batch(self, kinds: Kinds, label: int) -> GraphBatch:
        """The graph as what a client holds. Raises ValueError where a node has another degree than its kind."""
        degrees = self.adjacency().sum(dim=1).long().tolist()
        if degrees != [kinds.degrees[kind] for kind in self.nodes]:
            raise ValueError(
                f"expected nodes of the degrees that their kinds have, {[kinds.degrees[k] for k in self.nodes]}; "
                f"got {degrees}."
            )
        features = kinds.features[list(self.nodes)]
        return GraphBatch.of(features[None], self.adjacency()[None], torch.tensor([label], device="cpu"))


def span(gradient: Tensor, *, tolerance: float = 1e-9) -> Tensor:
    """An orthonormal basis (r, d) of the rows of a gradient (m, d), which are mixtures of what entered the layer.

    Singular values below ``tolerance`` times the largest count as zero.
    """
    _, sizes, rows = torch.linalg.svd(gradient, full_matrices=False)
    return rows[: int((sizes > tolerance * sizes[0]).sum())]


def distances(vectors: Tensor, basis: Tensor) -> Tensor:
    """How far each of the vectors (N, d) is from the span of a basis (r, d), relative to its length: from 0 to 1."""
    rest = vectors - (vectors @ basis.T) @ basis
    return rest.norm(dim=-1) / vectors.norm(dim=-1).clamp(min=1e-300)
