"""Put a graph together from neighbourhoods: depth first, each partial graph checked as far as it is known."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from gilib.federated import Client, Update
from gilib.frontiers.graph_networks import GCN
from gilib.frontiers.graph_types import Edge, Graph, Kinds, Neighbours, distances, span


@dataclass(frozen=True)
class Partial:
    """A graph that grows: kinds of ``nodes``, their ``edges``, which neighbourhood each has and lacks of it.

    ``chosen`` is the number of a node's neighbourhood, None while it has none; ``needs`` are kinds that it still lacks.
    """

    nodes: tuple[int, ...]
    edges: frozenset[Edge]
    chosen: tuple[int | None, ...]
    needs: tuple[Counter[int], ...]

    def neighbours(self, one: int) -> list[int]:
        """The nodes beside a node."""
        return [b if a == one else a for a, b in self.edges if one in (a, b)]


class Search:
    """An open node gets a neighbourhood that holds its neighbours; what it lacks is an old node or a new one.

    Once a node and its neighbours have their neighbourhoods, the output of the second layer at this node is known, and
    must lie in the span of the third layer's gradient, where there is a third layer.
    """

    def __init__(
        self,
        model: GCN,
        update: Update,
        kinds: Kinds,
        around: Sequence[tuple[int, Neighbours]],
        tolerance: float,
        budget: int,
    ) -> None:
        assert update.labels is not None
        self.model, self.update, self.kinds, self.tolerance, self.budget = model, update, kinds, tolerance, budget
        self.size, self.label, self.tried, self.steps = update.input_shape[0], int(update.labels[0]), 0, 0
        self.counts = [Counter(chosen) for _, chosen in around]
        self.choices: dict[int, list[int]] = defaultdict(list)
        for number, (kind, _) in enumerate(around):
            self.choices[kind].append(number)
        alike = groupby(around, key=lambda one: one[0])  # they come by kind
        outputs = [first_outputs(model, kinds, kind, [chosen for _, chosen in group]) for kind, group in alike]
        self.outputs = torch.cat(outputs) if outputs else None
        third = update.gradients.get("layers.2.weight")
        self.third = None if third is None else span(third, tolerance=tolerance / 100)

    def run(self) -> Graph | None:
        """Start at the kind with the fewest neighbourhoods, and go on to others where it is in no graph."""
        for kind in sorted(self.choices, key=lambda kind: len(self.choices[kind])):
            found = self.grow(Partial((kind,), frozenset(), (None,), (Counter(),)))
            if found is not None or self.steps >= self.budget:
                return found
        return None

    def grow(self, part: Partial) -> Graph | None:
        """The whole graph that a partial one is a part of, if there is one."""
        self.steps += 1
        if self.steps >= self.budget:
            return None
        if None in part.chosen:
            return self._decide(part, part.chosen.index(None))
        lacking = next((one for one, need in enumerate(part.needs) if need), None)
        if lacking is not None:
            return self._connect(part, lacking)
        return self._accept(Graph(part.nodes, part.edges)) if len(part.nodes) == self.size else None

    def _decide(self, part: Partial, one: int) -> Graph | None:
        """Give a new node one of its kind's neighbourhoods, of which it has the node that it hangs on."""
        there = Counter(part.nodes[other] for other in part.neighbours(one))
        for number in self.choices[part.nodes[one]]:
            if there <= self.counts[number]:
                left = _set(part.needs, one, self.counts[number] - there)
                grown = Partial(part.nodes, part.edges, _set(part.chosen, one, number), left)
                found = self.grow(grown) if self._fits(grown, one) else None
                if found is not None:
                    return found
        return None

    def _connect(self, part: Partial, one: int) -> Graph | None:
        """Give a node its next neighbour: a node that lacks one of its kind, which closes a ring, or a new node."""
        kind = next(iter(part.needs[one]))
        needs = _set(part.needs, one, part.needs[one] - Counter([kind]))
        for other, theirs in enumerate(part.needs):
            edge = (min(one, other), max(one, other))
            if other != one and part.nodes[other] == kind and theirs[part.nodes[one]] and edge not in part.edges:
                both = _set(needs, other, theirs - Counter([part.nodes[one]]))
                closed = Partial(part.nodes, part.edges | {edge}, part.chosen, both)
                found = self.grow(closed) if self._fits(closed, one) and self._fits(closed, other) else None
                if found is not None:
                    return found
        if len(part.nodes) == self.size:
            return None
        edges = part.edges | {(one, len(part.nodes))}
        return self.grow(Partial((*part.nodes, kind), edges, (*part.chosen, None), (*needs, Counter())))

    def _fits(self, part: Partial, changed: int) -> bool:
        """Whether the nodes at and beside the changed one pass the third layer's check, as far as it can be made."""
        if self.third is None or self.outputs is None:
            return True
        ready = [one for one in (changed, *part.neighbours(changed)) if self._surrounded(part, one)]
        if not ready:
            return True
        mixed = torch.stack([self._mixture(part, one) for one in ready])
        with torch.no_grad():
            seconds = self.model.activation(mixed @ weight(self.model, 1).T)
        return bool((distances(seconds, self.third) < self.tolerance).all())

    def _surrounded(self, part: Partial, one: int) -> bool:
        known = part.chosen[one] is not None and not part.needs[one]
        return known and all(part.chosen[other] is not None for other in part.neighbours(one))

    def _mixture(self, part: Partial, one: int) -> Tensor:
        """What enters the second layer's weights at a node: its and its neighbours' outputs of the first."""
        assert self.outputs is not None
        scale = [1 / math.sqrt(self.kinds.degrees[kind] + 1) for kind in part.nodes]
        beside = [one, *part.neighbours(one)]
        numbers = [number for number in (part.chosen[other] for other in beside) if number is not None]
        factors = torch.tensor([scale[one] * scale[other] for other in beside], dtype=torch.float64, device="cpu")
        return factors @ self.outputs[numbers]

    def _accept(self, graph: Graph) -> Graph | None:
        """The graph if it gives the shared gradient."""
        self.tried += 1
        client = Client(self.model, loss=self.update.loss, mode=self.update.mode, seed=0)
        given = client.update(graph.batch(self.kinds, self.label)).gradients
        for name, value in self.update.gradients.items():
            if (given[name] * self.update.weight - value).norm() > self.tolerance * value.norm():
                return None
        return graph


def first_outputs(model: GCN, kinds: Kinds, kind: int, around: Sequence[Neighbours]) -> Tensor:
    """The outputs of the first layer (N, width) at nodes of a ``kind`` with neighbours of the kinds ``around`` (N)."""
    with torch.no_grad():
        images = kinds.features.double() @ weight(model, 0).T
        scale = torch.tensor(kinds.degrees, dtype=torch.float64, device="cpu").add(1).rsqrt()
        beside = torch.tensor(around, device="cpu")
        mixed = scale[kind] * (scale[kind] * images[kind] + (scale[beside, None] * images[beside]).sum(dim=1))
        found: Tensor = model.activation(mixed)
        return found


def weight(model: GCN, layer: int) -> Tensor:
    """The weight (out, in) of one of the graph convolutions."""
    return dict(model.named_parameters())[f"layers.{layer}.weight"].detach()


def _set(values: tuple, place: int, value: object) -> tuple:  # type: ignore[type-arg]
    return (*values[:place], value, *values[place + 1 :])
