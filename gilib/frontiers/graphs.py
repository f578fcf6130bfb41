"""A graph from the gradient of a graph network, exactly: the idea of GRAIN.

A node is one of few kinds (say, an atom and how many neighbours it has). The gradient of the first layer says by its
span which kinds occur, that of the second which neighbourhoods. Graphs are then put together from the neighbourhoods,
and the gradient of the whole says which one it was.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from torch import Tensor, nn

from gilib.federated import Update
from gilib.frontiers.graph_networks import GCN
from gilib.frontiers.graph_search import Search, first_outputs
from gilib.frontiers.graph_types import Graph, Kinds, Neighbours, distances, span
from gilib.recursion.door import double_model, double_update


@dataclass(frozen=True)
class RecoveredGraph:
    """What `grain` returns: the ``graph``, or None where no graph was found that explains the gradient.

    ``kinds`` and ``neighbourhoods`` passed the checks of the spans; ``ranks`` are those of the two gradients, ``tried``
    is how many whole graphs were compared. ``complete`` is False where the budget ended the search.
    """

    graph: Graph | None
    kinds: tuple[int, ...]
    neighbourhoods: tuple[tuple[int, Neighbours], ...]
    ranks: tuple[int, int]
    tried: int
    complete: bool


def grain(
    model: GCN,
    update: Update,
    kinds: Kinds,
    *,
    tolerance: float = 1e-7,
    budget: int = 50_000,
) -> RecoveredGraph:
    """Recover one graph from its gradient: kinds of nodes, then neighbourhoods, then the graph made of them.

    With a third layer, two neighbourhoods around a node are checked by its span while the graph grows.

    Needs a `GCN` of at least two layers that are wider than the graph has nodes, its ``kinds`` of nodes, the label, and
    an update of one plain step. Up to ``tolerance`` something lies in a span, relative to its length, and up to that a
    gradient is the shared one; singular values below a hundredth of it count as zero. ``budget`` is how many steps the
    search for the graph may take. What it returns gives the shared gradient: it is the graph, up to the numbering of
    its nodes, and up to graphs that this network does not tell apart.

    Raises ValueError for a batch of several graphs, another model, another number of features, or an unknown label.

    Known as: GRAIN.
    Source: the idea of Drencheva et al. (2025). Taught in: frontiers/discrete.
    """
    _check(model, update, kinds)
    working, shared = double_model(model, mode=update.mode), double_update(update)
    assert isinstance(working, GCN)
    spans = (span(shared.gradients[f"layers.{layer}.weight"], tolerance=tolerance / 100) for layer in (0, 1))
    first, second = spans
    found = tuple((distances(kinds.features.double(), first) < tolerance).nonzero()[:, 0].tolist())
    around = tuple(_neighbourhoods(working, kinds, found, second, tolerance))
    search = Search(working, shared, kinds, around, tolerance, budget)
    graph = search.run()
    ranks = (len(first), len(second))
    return RecoveredGraph(graph, found, around, ranks, search.tried, search.steps < budget)


def solvable(adjacency: Tensor) -> bool:
    """Whether the normalised adjacency matrix with loops is invertible, from the adjacency (n, n): see `grain`.

    It is unless the plain adjacency matrix has the eigenvalue -1. Where it is singular, what a layer's gradient spans
    may lack some of the nodes.
    """
    values = torch.linalg.eigvalsh(adjacency.double())
    return bool(((values + 1).abs() > 1e-9).all())


def _neighbourhoods(
    model: GCN, kinds: Kinds, found: Sequence[int], basis: Tensor, tolerance: float
) -> Iterator[tuple[int, Neighbours]]:
    """Every node with its neighbours whose output of the first layer lies in the span of the second's gradient."""
    for kind in found:
        sets = list(combinations_with_replacement(found, kinds.degrees[kind]))
        inside = distances(first_outputs(model, kinds, kind, sets), basis) < tolerance
        yield from ((kind, chosen) for chosen, passes in zip(sets, inside.tolist(), strict=True) if passes)


def _check(model: nn.Module, update: Update, kinds: Kinds) -> None:
    if not isinstance(model, GCN) or len(model.layers) < 2:
        raise ValueError(f"expected a GCN of at least two layers, got {type(model).__name__}.")
    if update.batch_size != 1:
        raise ValueError(
            f"expected the update of one graph, got one of {update.batch_size}: their neighbourhoods would be one heap."
        )
    nodes, width = update.input_shape
    if width - nodes != kinds.features.shape[1]:
        raise ValueError(
            f"expected kinds with the {width - nodes} features that the update's nodes have; got "
            f"{kinds.features.shape[1]}."
        )
    if update.labels is None:
        raise ValueError("expected an update with its label: use Client(..., share_labels=True), or try every label.")
