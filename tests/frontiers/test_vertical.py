"""Columns over parties: what a round sends, what CAFE solves, when it cannot, and where it does not apply."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn
from victims import random_batch

from gilib.data import Batch
from gilib.federated import Client
from gilib.frontiers.vertical import (
    Party,
    Search,
    Vertical,
    VerticalUpdate,
    cafe,
    descend,
    drawn,
    fake,
    find_memberships,
    first_dense,
    first_shot,
    follow,
    four_quarters,
    membership,
    noisy,
    partition,
    quadrants,
    reshuffled,
    second_shot,
    sums_of,
    under_other_indices,
    unfaked,
)
from gilib.metrics import match, psnr

N, B, SHAPE = 10, 3, (3, 8, 8)
DATA = random_batch(N, size=8, classes=5)


def small(*, activation: str = "leaky_relu", seed: int = 0) -> Vertical:
    return four_quarters(5, size=8, width=12, embedding=4, activation=activation, seed=seed)


def rounds(federation: Vertical, batches) -> list[VerticalUpdate]:
    return [federation.round(DATA, batch) for batch in batches]


def quality(images: torch.Tensor) -> torch.Tensor:
    return psnr(images.clamp(0, 1), DATA.images)


@pytest.fixture(scope="module")
def seen():
    federation = small()
    return federation, rounds(federation, drawn(N, B, 16))


# --- rounds ----------------------------------------------------------------------------------------------------------


def test_a_round_is_the_gradient_of_all_parties_together():
    federation, indices = small(), [4, 1, 7]
    update = federation.round(DATA, indices)
    together = Client(federation.model()).update(Batch(DATA.images[indices], DATA.labels[indices]))
    found = update.as_update(SHAPE)
    assert found.gradients.keys() == together.gradients.keys()
    for name, value in together.gradients.items():
        assert torch.allclose(found.gradients[name], value, atol=1e-14)
    assert update.indices == (4, 1, 7)


def test_the_model_stays_and_training_makes_another():
    federation = small()
    before = [value.clone() for value in federation.model().parameters()]
    update = federation.round(DATA, [0, 1])
    moved = federation.trained(update, learning_rate=0.5)
    for value, old in zip(federation.model().parameters(), before, strict=True):
        assert torch.equal(value, old)
        assert value.grad is None
    step = before[0] - 0.5 * update.gradients[0]["conv.weight"]
    assert torch.allclose(moved.parties[0].model.conv.weight, step)


def test_parts_join_again():
    federation = small()
    parts = [party.part(DATA.images) for party in federation.parties]
    assert torch.equal(federation.joined(parts, SHAPE), DATA.images)
    with pytest.raises(ValueError, match="equally many rows"):
        federation.joined([parts[0][:3], *parts[1:]], SHAPE)
    with pytest.raises(ValueError, match="one a party"):
        federation.joined(parts[:2], SHAPE)


def test_a_column_with_two_parties_or_with_none_is_refused():
    party = small().parties[0]
    with pytest.raises(ValueError, match="0 are with several and 144 with nobody"):
        Vertical([party], nn.Linear(4, 5)).places(SHAPE)
    with pytest.raises(ValueError, match="48 are with several"):
        Vertical([party, party], nn.Linear(8, 5)).places(SHAPE)


@pytest.mark.parametrize("indices", [[0, 0], [], [1, 2, 1]])
def test_an_index_twice_or_none_is_refused(indices):
    with pytest.raises(ValueError, match="each once"):
        small().round(DATA, indices)


def test_an_index_outside_and_a_label_outside_are_refused():
    with pytest.raises(IndexError, match="from 0 to 9"):
        small().round(DATA, [0, 10])
    with pytest.raises(ValueError, match="labels must lie in"):
        small().round(Batch(DATA.images, DATA.labels + 3), [*range(N)])
    with pytest.raises(ValueError, match="at least one party"):
        Vertical([], nn.Linear(4, 5))


# --- who is in which round -------------------------------------------------------------------------------------------


def test_ranks_of_the_plans():
    rank = {
        plan.__name__: int(torch.linalg.matrix_rank(membership(plan(40, 8, 60), 40)))
        for plan in (drawn, reshuffled, partition)
    }
    assert rank == {"drawn": 40, "reshuffled": 40, "partition": 5}
    for epochs in (1, 3, 6):  # each epoch's rows sum to the same row of ones
        matrix = membership(reshuffled(40, 8, 5 * epochs), 40)
        assert torch.linalg.matrix_rank(matrix) == 1 + 4 * epochs
    with pytest.raises(ValueError, match="batches of 1 to 40"):
        drawn(40, 41, 1)
    with pytest.raises(ValueError, match="each once"):
        membership([[0, 0]], 3)


def test_memberships_are_found_without_indices():
    truth = membership(drawn(20, 4, 200), 20)
    gradients = torch.randn(20, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = find_memberships(truth @ gradients, samples=20, size=4)
    assert sorted(found.T.tolist()) == sorted(truth.T.tolist())
    with pytest.raises(ValueError, match="columns of memberships were found"):
        find_memberships((truth @ gradients)[:24], samples=20, size=4, starts=2)
    with pytest.raises(ValueError, match="rank 20, where 30 samples"):
        find_memberships(truth @ gradients, samples=30, size=4)
    with pytest.raises(ValueError, match="fewer than half"):
        find_memberships(truth @ gradients, samples=20, size=10)


# --- the shots -------------------------------------------------------------------------------------------------------


def test_three_samples_by_hand():
    pairs = membership([[0, 1], [1, 2], [0, 2]], 3)
    deltas, inputs = torch.tensor([[1.0], [2.0], [-1.0]]).double(), torch.tensor([[3.0], [1.0], [2.0]]).double()
    bias, weight = pairs @ deltas, (pairs @ (deltas * inputs))[:, :, None]
    assert bias.flatten().tolist() == [3, 1, 0]
    assert weight.flatten().tolist() == [5, 0, 1]
    found, report = first_shot(pairs, bias)
    assert torch.allclose(found, deltas)
    assert report.determined
    assert torch.allclose(second_shot(pairs, found, weight)[0], inputs)


def test_everything_comes_back(seen):
    federation, updates = seen
    found = cafe(federation, updates, samples=N, shape=SHAPE)
    assert quality(found.images).min() > 200
    assert found.exact
    assert torch.equal(found.labels, DATA.labels)
    assert len(found.layers) == 12
    assert max(layer.residual for layer in found.layers) < 1e-10


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_other_activations(activation):
    federation = small(activation=activation)
    found = cafe(federation, rounds(federation, drawn(N, B, 16)), samples=N, shape=SHAPE)
    assert quality(found.images).min() > 100


def test_columns_of_a_table():
    rows = Batch(torch.rand(12, 1, 1, 9, dtype=torch.float64), torch.arange(12) % 3)
    parties = [
        Party(nn.Sequential(nn.Flatten(), nn.Linear(width, 6), nn.Tanh()).double(), (slice(None), slice(None), columns))
        for width, columns in ((4, slice(0, 4)), (3, [4, 6, 8]), (2, [5, 7]))
    ]
    federation = Vertical(parties, nn.Linear(18, 3).double())
    updates = [federation.round(rows, batch) for batch in drawn(12, 5, 16)]
    found = cafe(federation, updates, samples=12, shape=(1, 1, 9))
    assert (found.images - rows.images).abs().max() < 1e-6


@pytest.mark.parametrize("plan", [partition, drawn])
def test_too_few_equations_say_so(plan):
    federation = small()
    found = cafe(federation, rounds(federation, plan(N, B, 9 if plan is drawn else 40)), samples=N, shape=SHAPE)
    assert not found.exact
    assert not found.layers[0].determined
    assert quality(found.images).median() < 60


def test_relu_is_a_guess_with_few_filters_and_says_so():
    federation = small(activation="relu")
    updates = rounds(federation, drawn(N, B, 16))
    found = cafe(federation, updates, samples=N, shape=SHAPE)
    assert not found.exact
    searched = cafe(federation, updates, samples=N, shape=SHAPE, search=Search(iterations=50))
    assert not searched.exact
    assert quality(searched.images).median() > 10


def test_descent_goes_to_the_solution(seen):
    federation, updates = seen
    [sums, *_] = sums_of(federation, updates, SHAPE)
    deltas = first_shot(membership([update.indices for update in updates], N), sums.bias)[0]
    far = []
    for iterations in (100, 3000):
        settings = {"samples": N, "iterations": iterations, "rates": (0.1, 1e-2)}
        found, _ = descend([update.indices for update in updates], sums.bias / B, sums.weight / B, **settings)
        far.append(float((B * found - deltas).norm() / deltas.norm()))
    assert far[1] < 0.1 * far[0]


# --- models that move, and defenses ----------------------------------------------------------------------------------


def test_a_model_that_moves_is_followed():
    federations, updates, federation = [], [], small(activation="sigmoid")
    for batch in drawn(N, B, 16):
        federations.append(federation)
        updates.append(federation.round(DATA, batch))
        federation = federation.trained(updates[-1], learning_rate=1e-2)
    plain = quality(cafe(federations[0], updates, samples=N, shape=SHAPE).images).median()
    followed = quality(follow(federations, updates, samples=N, shape=SHAPE, corrections=2).images).median()
    assert followed > plain + 20
    with pytest.raises(ValueError, match="federation of each of 16 rounds"):
        follow(federations[:3], updates, samples=N, shape=SHAPE)


def test_indices_that_are_not_true_hide_and_are_found_out():
    federation = small()
    updates = rounds(federation, drawn(N, B, 150))
    told = [under_other_indices(update, N, seed=turn) for turn, update in enumerate(updates)]
    assert quality(cafe(federation, told, samples=N, shape=SHAPE).images).median() < 20
    sums = torch.cat([one.bias for one in sums_of(federation, told, SHAPE)], dim=1)
    found = find_memberships(sums, samples=N, size=B)
    images = cafe(federation, told, samples=N, shape=SHAPE, memberships=found).images.clamp(0, 1)
    assert psnr(images[match(images, DATA.images)], DATA.images).min() > 100


def test_noise_is_as_strong_as_it_says():
    update = small().round(DATA, range(N))
    value, changed = (one.gradients[0]["dense.weight"] for one in (update, noisy(update, scale=0.5, seed=1)))
    assert abs((changed - value).std() / value.square().mean().sqrt() - 0.5) < 0.1


def test_fake_gradients_keep_the_order_and_nothing_else():
    update = small().round(DATA, range(N))
    sent = fake(update, deviation=0.1, seed=0)
    value, changed = (one.gradients[1]["dense.weight"].flatten() for one in (update, sent))
    assert torch.equal(value.argsort(), changed.argsort())
    assert abs(changed.std() - 0.1) < 0.02
    guess = unfaked([sent], [update])[0].gradients[1]["dense.weight"].flatten()
    assert torch.allclose(guess, value)  # with the truth itself as public round the order gives it back


def test_adding_up_parties_hides_nothing():
    update = small().round(DATA, [0, 1, 2])
    flat = [torch.cat([value.flatten() for value in part.values()]) for part in update.gradients]
    padded = [torch.zeros(4, len(one)).index_fill(0, torch.tensor(k), 1).double() * one for k, one in enumerate(flat)]
    for part, row in zip(flat, sum(padded), strict=True):
        assert torch.equal(part, row)


# --- where it does not apply -----------------------------------------------------------------------------------------


def party_of(**layers: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(layers)).double()


def test_models_without_such_a_layer_are_refused_and_not_called_safe():
    shape = (3, 4, 4)
    conv = party_of(conv=nn.Conv2d(3, 4, 4), flat=nn.Flatten())
    with pytest.raises(ValueError, match="no fully connected layer") as caught:
        first_dense(conv, shape)
    assert "says nothing" in str(caught.value)
    with pytest.raises(ValueError, match="'dense' has no bias"):
        first_dense(party_of(flat=nn.Flatten(), dense=nn.Linear(48, 4, bias=False)), shape)
    frozen = party_of(flat=nn.Flatten(), dense=nn.Linear(48, 4))
    frozen.dense.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="no bias that is trained"):
        first_dense(frozen, shape)
    shared = nn.Linear(48, 48)
    with pytest.raises(ValueError, match="runs more than once"):
        first_dense(party_of(flat=nn.Flatten(), one=shared, act=nn.Tanh(), two=shared), shape)


def test_pooling_is_named_and_searched_through():
    layers = {"conv": nn.Conv2d(3, 8, 3, padding=1), "act": nn.LeakyReLU(0.2), "pool": nn.MaxPool2d(2)}
    parties = [
        Party(party_of(**layers, flat=nn.Flatten(), dense=nn.Linear(32, 8), tail=nn.Tanh()), columns)
        for columns in quadrants(8, 8)
    ]
    federation = Vertical(parties, nn.Linear(32, 5).double())
    updates = rounds(federation, drawn(N, B, 16))
    with pytest.raises(ValueError, match="cannot be undone by linear equations"):
        cafe(federation, updates, samples=N, shape=SHAPE)
    found = cafe(federation, updates, samples=N, shape=SHAPE, search=Search(iterations=40))
    assert len(found.layers) == 12


def test_rounds_that_do_not_fit_are_refused(seen):
    federation, updates = seen
    with pytest.raises(ValueError, match="one batch size"):
        cafe(federation, [*updates, federation.round(DATA, [0])], samples=N, shape=SHAPE)
    with pytest.raises(ValueError, match="one batch size"):
        cafe(federation, [], samples=N, shape=SHAPE)
    with pytest.raises(ValueError, match="from 0 to 4"):
        cafe(federation, updates, samples=5, shape=SHAPE)
    with pytest.raises(ValueError, match="memberships of shape"):
        cafe(federation, updates, samples=N, shape=SHAPE, memberships=torch.ones(2, N))
    with pytest.raises(ValueError, match="from party 3"):
        cafe(federation, [replace(one, gradients=one.gradients[:3]) for one in updates], samples=N, shape=SHAPE)
    with pytest.raises(ValueError, match="sums of 16 rounds"):
        first_shot(membership([one.indices for one in updates], N), torch.zeros(3, 2))
