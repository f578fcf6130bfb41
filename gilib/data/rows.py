"""Batches of what is no image: rows of a table, and graphs. Clients and attacks take them as they take a `Batch`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gilib.data.batch import Batch


@dataclass(frozen=True, eq=False, repr=False)
class TableBatch(Batch):
    """Rows of a table, as numbers: the `Batch` of a client that holds people's records instead of images.

    The first field, `inputs`, is ``(B, D)``, floating point and finite, of any range; labels are those of `Batch`.
    Anything else raises ValueError.

    >>> TableBatch(torch.zeros(2, 80), torch.tensor([0, 1]))
    TableBatch(rows=(2, 80) torch.float32, labels=[0, 1])
    """

    def _check_inputs(self) -> None:
        _check_numbers(self.images, "rows", "(B, D)", 2)

    def __repr__(self) -> str:
        return super().__repr__().replace("Batch(images=", "TableBatch(rows=")


@dataclass(frozen=True, eq=False, repr=False)
class GraphBatch(Batch):
    """Graphs of n nodes each, with f features a node, packed as one tensor that a graph network can be given.

    The first field, `inputs`, is ``(B, n, f + n)``: the features (B, n, f) beside the adjacency matrices (B, n, n),
    which are symmetric, of zeros and ones, and zero on the diagonal. `GraphBatch.of` packs. ValueError otherwise.
    """

    @classmethod
    def of(cls, features: Tensor, adjacency: Tensor, labels: Tensor) -> "GraphBatch":
        """Pack features (B, n, f) and adjacency matrices (B, n, n); raises ValueError for other numbers of nodes."""
        _check_numbers(features, "features", "(B, n, f)", 3)
        _check_numbers(adjacency, "adjacency matrices", "(B, n, n)", 3)
        if adjacency.shape[1:] != (features.shape[1], features.shape[1]) or len(adjacency) != len(features):
            raise ValueError(
                f"expected adjacency matrices for {len(features)} graphs of {features.shape[1]} nodes, as many as have "
                f"features; got {tuple(adjacency.shape)}. Graphs of different sizes are batches of their own."
            )
        return cls(torch.cat([features, adjacency.to(features)], dim=2), labels)

    def _check_inputs(self) -> None:
        _check_numbers(self.images, "graphs", "(B, n, f + n)", 3)
        if self.images.shape[2] <= self.images.shape[1]:
            raise ValueError(
                f"expected graphs (B, n, f + n) with at least one feature, got {tuple(self.images.shape)}. Use "
                "GraphBatch.of(features, adjacency, labels)."
            )
        edges = self.adjacency
        plain = ((edges == 0) | (edges == 1)).all() and bool((edges.diagonal(dim1=1, dim2=2) == 0).all())
        if not plain or not torch.equal(edges, edges.transpose(1, 2)):
            raise ValueError(
                "expected symmetric adjacency matrices of zeros and ones, with zeros on the diagonal: one for each "
                "pair of neighbours, in both directions, and no node beside itself."
            )

    @property
    def features(self) -> Tensor:
        """The features of the nodes, (B, n, f)."""
        return self.images[..., : -self.images.shape[1]]

    @property
    def adjacency(self) -> Tensor:
        """Who is whose neighbour, (B, n, n)."""
        return self.images[..., -self.images.shape[1] :]

    def __repr__(self) -> str:
        nodes = self.images.shape[1]
        return f"GraphBatch({len(self)} of {nodes} nodes, {self.images.shape[2] - nodes} features, {self.images.dtype})"


def _check_numbers(values: Tensor, what: str, shape: str, dimensions: int) -> None:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        got = f"dtype {values.dtype}" if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"expected {what} as a floating-point tensor, got {got}. Encode the table or graph first.")
    if values.ndim != dimensions or 0 in values.shape[1:]:
        raise ValueError(f"expected {what} of shape {shape}, nothing empty; got {tuple(values.shape)}.")
    if values.is_meta:
        raise ValueError(f"expected {what} with numbers, got a tensor on the meta device. Make it on a real one.")
    if not values.isfinite().all():
        raise ValueError(f"expected finite {what}, got NaN or infinity. Fill in or leave out what is missing.")
