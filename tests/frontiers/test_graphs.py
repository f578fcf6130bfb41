"""Graphs: what a batch of them refuses, what a gradient spans, and that a graph comes back where it can be foreseen."""

from dataclasses import replace

import networkx
import pytest
import torch

from gilib.data import GraphBatch
from gilib.defenses.privacy import gaussian_noise
from gilib.federated import Client, seeded_generator
from gilib.frontiers.graph_networks import gcn, normalised
from gilib.frontiers.graph_types import Graph, Kinds, distances, span
from gilib.frontiers.graphs import grain, solvable
from gilib.frontiers.molecules import MOLECULES, VALENCE, alike, atom, kinds, molecule, random_molecule
from gilib.models import mlp

KINDS = kinds()
FORMULAS = {
    "urea": "CN2O",
    "glycine": "C2NO2",
    "lactic acid": "C3O3",
    "nicotinic acid": "C6NO2",
    "dopamine": "C8NO2",
    "paracetamol": "C8NO2",
    "nicotine": "C10N2",
    "aspirin": "C9O4",
    "caffeine": "C8N4O2",
    "ibuprofen": "C13O2",
    "melatonin": "C13N2O2",
    "lidocaine": "C14N2O",
}


def attacked(graph: Graph, *, seed: int = 0, **settings):
    model = gcn(KINDS.features.shape[1], seed=seed)
    update = Client(model, share_labels=True, seed=0, **settings).update(graph.batch(KINDS, 1))
    return grain(model, update, KINDS)


# --- Batches and graphs ---


def test_a_graph_is_packed_and_unpacked():
    batch = molecule("NC(=O)N").batch(KINDS, 1)
    assert batch.features.shape == (1, 4, 10)
    assert torch.equal(batch.adjacency[0].sum(dim=1), torch.tensor([1.0, 3, 1, 1]).double())
    assert repr(batch) == "GraphBatch(1 of 4 nodes, 10 features, torch.float64)"


@pytest.mark.parametrize(
    ("adjacency", "message"),
    [
        (torch.zeros(1, 4, 4), r"1 graphs of 3 nodes.*got \(1, 4, 4\)"),
        (torch.zeros(2, 3, 3), r"got \(2, 3, 3\)"),
        (torch.eye(3)[None], "zeros on the diagonal"),
        (torch.tensor([[[0.0, 1, 0], [0, 0, 0], [0, 0, 0]]]), "symmetric"),
        (torch.full((1, 3, 3), torch.nan), "NaN"),
    ],
)
def test_what_is_no_graph_is_refused(adjacency, message):
    with pytest.raises(ValueError, match=message):
        GraphBatch.of(torch.ones(1, 3, 2), adjacency, torch.tensor([0]))


def test_molecules_have_their_atoms():
    for name, notation in MOLECULES.items():
        graph = molecule(notation)
        counts = {symbol: [atom(kind) for kind in graph.nodes].count(symbol) for symbol in VALENCE}
        found = "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in counts.items() if count)
        assert found == FORMULAS[name], name
        assert networkx.is_connected(networkx.Graph(list(graph.edges)))


@pytest.mark.parametrize("notation", ["C1CC", "C(C", "CX", "C", "CF(C)C", ")C"])
def test_what_is_no_molecule_is_refused(notation):
    with pytest.raises(ValueError, match="expected"):
        molecule(notation)


def test_random_molecules_are_connected_and_of_their_size():
    for size in (2, 4, 9, 20):
        for seed in range(10):
            graph = random_molecule(size, seeded_generator(size, seed))
            assert len(graph.nodes) == size
            assert networkx.is_connected(networkx.Graph(list(graph.edges)))
            graph.batch(KINDS, 0)
    with pytest.raises(ValueError, match="two nodes"):
        random_molecule(1, seeded_generator(0))


def test_alike_sees_numbering_only():
    assert alike(molecule("CCO"), molecule("OCC"))
    assert not alike(molecule("CCO"), molecule("COC"))
    assert not alike(molecule("CCO"), None)


def test_kinds_and_degrees_must_fit():
    with pytest.raises(ValueError, match="different features"):
        Kinds(torch.ones(2, 3), (1, 2))
    with pytest.raises(ValueError, match="K degrees"):
        Kinds(torch.eye(2), (1,))
    with pytest.raises(ValueError, match="degrees that their kinds have"):
        Graph(molecule("CCO").nodes, frozenset({(0, 1)})).batch(KINDS, 0)


# --- The network and its gradient ---


def test_the_network_does_not_see_the_numbering():
    model, graph = gcn(10), molecule(MOLECULES["aspirin"]).batch(KINDS, 0)
    order = torch.randperm(13, generator=seeded_generator(0))
    other = GraphBatch.of(graph.features[:, order], graph.adjacency[:, order][:, :, order], graph.labels)
    assert torch.allclose(model(graph.inputs), model(other.inputs), atol=1e-12)
    mixing = normalised(graph.adjacency[0])
    assert torch.allclose(mixing, mixing.T)
    assert torch.linalg.eigvalsh(mixing).max() == pytest.approx(1)


def test_singular_exactly_where_minus_one_is_an_eigenvalue():
    for seed in range(40):
        adjacency = random_molecule(8, seeded_generator(1, seed)).adjacency()
        assert solvable(adjacency) == (int(torch.linalg.matrix_rank(normalised(adjacency))) == 8)
    path = torch.diag(torch.ones(4), 1)
    assert not solvable(path + path.T)  # five atoms in a row


def test_the_gradient_spans_what_entered_the_layer():
    graph = molecule(MOLECULES["caffeine"])
    batch, model = graph.batch(KINDS, 1), gcn(10)
    update = Client(model, seed=0).update(batch)
    basis = span(update.gradients["layers.0.weight"])
    away = distances(KINDS.features, basis)
    assert (away[list(set(graph.nodes))] < 1e-10).all()
    assert away.max() > 0.1
    assert len(basis) == torch.linalg.matrix_rank(batch.features[0])


# --- The attack ---


@pytest.mark.parametrize("name", ["urea", "glycine", "dopamine", "aspirin", "caffeine"])
def test_molecules_come_back(name):
    graph = molecule(MOLECULES[name])
    assert solvable(graph.adjacency())
    found = attacked(graph)
    assert alike(found.graph, graph)
    assert set(graph.nodes) <= set(found.kinds)


def test_every_graph_comes_back_where_that_was_foreseen():
    hits = {True: [], False: []}
    for size in (4, 6, 9, 13):
        for seed in range(5):
            graph = random_molecule(size, seeded_generator(size, seed))
            hits[solvable(graph.adjacency())].append(alike(attacked(graph, seed=seed % 3).graph, graph))
    assert all(hits[True])
    assert len(hits[True]) >= 10
    assert not all(hits[False])


def test_what_is_returned_explains_the_gradient():
    for seed in range(10):
        graph = random_molecule(8, seeded_generator(8, seed))
        found = attacked(graph).graph
        assert found is None or alike(found, graph) or not solvable(graph.adjacency())


def test_noise_ends_it():
    graph = molecule(MOLECULES["aspirin"])
    assert attacked(graph, defenses=(gaussian_noise(1e-4),)).graph is None


def test_a_search_out_of_budget_says_so():
    model, graph = gcn(10), molecule(MOLECULES["ibuprofen"])
    update = Client(model, share_labels=True, seed=0).update(graph.batch(KINDS, 0))
    found = grain(model, update, KINDS, budget=3)
    assert found.graph is None
    assert not found.complete


def test_what_it_cannot_attack_is_refused():
    model, graph = gcn(10), molecule("CCO").batch(KINDS, 0)
    update = Client(model, share_labels=True, seed=0).update(graph)
    with pytest.raises(ValueError, match="one graph, got one of 2"):
        grain(model, replace(update, batch_size=2), KINDS)
    with pytest.raises(ValueError, match="expected a GCN"):
        grain(mlp(2, channels=10, size=1), update, KINDS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="with the 10 features"):
        grain(model, update, Kinds(torch.eye(3), (1, 1, 1)))
    with pytest.raises(ValueError, match="share_labels"):
        grain(model, replace(update, labels=None), KINDS)
