"""Molecules as graphs: the atoms but hydrogen are nodes, the bonds edges. Drawn at random, or read from a formula."""

import re

import torch

from gilib.frontiers.graph_types import Graph, Kinds

VALENCE = {"C": 4, "N": 3, "O": 2, "F": 1, "S": 2, "Cl": 1}
"""How many neighbours an atom can have; sulfur in its common form."""

_KINDS = [(atom, degree) for atom, most in VALENCE.items() for degree in range(1, most + 1)]
_COMMON = ("C", "C", "C", "N", "O", "F", "S", "Cl")

MOLECULES = {
    "urea": "NC(=O)N",
    "glycine": "NCC(=O)O",
    "lactic acid": "CC(O)C(=O)O",
    "nicotinic acid": "OC(=O)C1=CN=CC=C1",
    "dopamine": "NCCC1=CC(O)=C(O)C=C1",
    "paracetamol": "CC(=O)NC1=CC=C(O)C=C1",
    "nicotine": "CN1CCCC1C2=CN=CC=C2",
    "aspirin": "CC(=O)OC1=CC=CC=C1C(=O)O",
    "caffeine": "CN1C=NC2=C1C(=O)N(C)C(=O)N2C",
    "ibuprofen": "CC(C)CC1=CC=C(C=C1)C(C)C(=O)O",
    "melatonin": "CC(=O)NCCC1=CNC2=C1C=C(OC)C=C2",
    "lidocaine": "CCN(CC)CC(=O)NC1=C(C)C=CC=C1C",
}
"""Substances with at most twenty atoms beside hydrogen, in the common line notation (SMILES)."""


def kinds() -> Kinds:
    """Fourteen kinds of nodes: six atoms with one neighbour up to their valence. A feature an atom, one a degree."""
    features = torch.zeros(len(_KINDS), len(VALENCE) + max(VALENCE.values()), dtype=torch.float64, device="cpu")
    for place, (atom, degree) in enumerate(_KINDS):
        features[place, list(VALENCE).index(atom)] = features[place, len(VALENCE) + degree - 1] = 1
    return Kinds(features, tuple(degree for _, degree in _KINDS))


def atom(kind: int) -> str:
    """The symbol of the atom of a kind."""
    return _KINDS[kind][0]


def molecule(notation: str) -> Graph:
    """The graph of a molecule in line notation: atoms, branches in brackets, and digits where rings close.

    Bonds of all orders are edges. Raises ValueError for other symbols, rings or branches that stay open, and atoms with
    more neighbours than their valence.
    """
    atoms: list[str] = []
    edges: set[tuple[int, int]] = set()
    branches: list[int] = []
    rings: dict[str, int] = {}
    last = -1
    for part in re.findall(r"Cl|.", notation):
        if part in VALENCE:
            edges |= {(last, len(atoms))} if atoms else set()
            last = len(atoms)
            atoms.append(part)
        elif part == "(":
            branches.append(last)
        elif part == ")" and branches:
            last = branches.pop()
        elif part.isdigit() and part in rings:
            edges.add((rings.pop(part), last))
        elif part.isdigit() and atoms:
            rings[part] = last
        elif part not in "=#":
            raise ValueError(f"expected atoms {', '.join(VALENCE)}, brackets, ring numbers, = and #; got {part!r}.")
    if rings or branches or not edges:
        raise ValueError(f"expected at least two atoms, and rings and branches that close; got {notation!r}.")
    return _graph(atoms, edges)


def random_molecule(nodes: int, generator: torch.Generator) -> Graph:
    """A connected graph of ``nodes`` atoms that keeps their valences: a tree, and every other time one ring.

    Atoms hang on one that has a valence left, drawn evenly; three of eight draws are carbon. Raises ValueError for
    fewer than two nodes.
    """
    if nodes < 2:
        raise ValueError(f"expected at least two nodes, got {nodes}.")

    def drawn(count: int) -> int:
        return int(torch.randint(count, (1,), generator=generator, device="cpu"))

    atoms, free, edges = ["C"], [VALENCE["C"]], set()
    while len(atoms) < nodes:
        open_ones = [place for place, left in enumerate(free) if left]
        place = open_ones[drawn(len(open_ones))]
        symbol = _COMMON[drawn(len(_COMMON))]
        if sum(free) + VALENCE[symbol] < 3 and len(atoms) + 1 < nodes:  # the last open valence must not be closed
            symbol = "C"
        edges.add((place, len(atoms)))
        free[place] -= 1
        free.append(VALENCE[symbol] - 1)
        atoms.append(symbol)
    pairs = [(a, b) for a in range(nodes) for b in range(a + 1, nodes) if free[a] and free[b] and (a, b) not in edges]
    if drawn(2) and pairs:
        edges.add(pairs[drawn(len(pairs))])
    return _graph(atoms, edges)


def alike(one: Graph | None, other: Graph | None) -> bool:
    """Whether two graphs are the same but for the numbering of their nodes, kinds included; None is like nothing."""
    import networkx

    if one is None or other is None:
        return False
    drawn = []
    for graph in (one, other):
        drawn.append(networkx.Graph(list(graph.edges)))
        drawn[-1].add_nodes_from((place, {"kind": kind}) for place, kind in enumerate(graph.nodes))
    return bool(networkx.is_isomorphic(*drawn, node_match=lambda a, b: a["kind"] == b["kind"]))


def _graph(atoms: list[str], edges: set[tuple[int, int]]) -> Graph:
    degrees = [sum(place in edge for edge in edges) for place in range(len(atoms))]
    for symbol, degree in zip(atoms, degrees, strict=True):
        if (symbol, degree) not in _KINDS:
            raise ValueError(f"expected at most {VALENCE[symbol]} neighbours of {symbol}, got {degree}.")
    kinds_of = [_KINDS.index(pair) for pair in zip(atoms, degrees, strict=True)]
    return Graph(tuple(kinds_of), frozenset((min(edge), max(edge)) for edge in edges))
