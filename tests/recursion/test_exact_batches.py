"""SPEAR: exact batches, the check that needs no truth, and what it refuses."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from victims import nothing_changes

from gilib import data, metrics, models
from gilib.data import Batch
from gilib.federated import Client, LocalTraining, Update, seeded_generator, train
from gilib.recursion import BatchReport, Reconstruction, spear

EXACT = 1e-6


@pytest.fixture(scope="module", params=["photos", "digits"])
def dataset(request) -> data.Dataset:
    return data.load(request.param, size=8)


@pytest.fixture(scope="module")
def photos() -> data.Dataset:
    return data.load("photos", size=8)


def network(dataset: data.Dataset, *, width: int = 200, **settings) -> nn.Sequential:
    return models.mlp(channels=dataset.images.shape[1], size=8, hidden=(width,), **settings).double()


def random_batch(dataset: data.Dataset, size: int, seed: int) -> Batch:
    return dataset.batch(torch.randperm(len(dataset), generator=seeded_generator(7, size, seed))[:size])


def worst_error(found: Reconstruction, batch: Batch) -> float:
    """The largest relative error of an image of the batch, after matching."""
    images, truth = found.images, batch.images.double()
    error = (images[metrics.match(images.clamp(0, 1), truth)] - truth).flatten(1).norm(dim=1)
    return float((error / truth.flatten(1).norm(dim=1)).max())


def noisy(update: Update, level: float, seed: int = 0) -> Update:
    """The update plus Gaussian noise, relative to the root mean square of each gradient."""
    generator, gradients = seeded_generator(seed), {}
    for name, value in update.gradients.items():
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        gradients[name] = value + level * value.square().mean().sqrt() * noise
    return dataclasses.replace(update, gradients=gradients)


def report_of(found: Reconstruction) -> BatchReport:
    [report] = found.layers
    assert isinstance(report, BatchReport)
    return report


def test_at_least_95_percent_of_batches_of_four_are_exact(dataset):
    model, errors = network(dataset), []
    for seed in range(60):
        batch = random_batch(dataset, 4, seed)
        found = spear(model, Client(model).update(batch))
        errors.append(worst_error(found, batch))
        assert found.exact == (errors[-1] <= EXACT)
    assert sum(error <= EXACT for error in errors) >= 59


@pytest.mark.parametrize("size", [1, 2, 6, 8])
def test_other_batch_sizes_are_exact_too(dataset, size):
    model = network(dataset)
    batches = [random_batch(dataset, size, seed) for seed in range(8)]
    found = [spear(model, Client(model).update(batch)) for batch in batches]
    assert sum(worst_error(one, batch) <= EXACT for one, batch in zip(found, batches, strict=True)) >= 7


def test_labels_come_with_the_images_in_the_same_order(photos):
    model, batch = network(photos), random_batch(photos, 5, 0)
    found = spear(model, Client(model).update(batch))
    order = metrics.match(found.images.clamp(0, 1), batch.images)
    assert found.labels is not None
    assert torch.equal(found.labels[order], batch.labels)


def test_nested_networks_and_shared_activations_are_walked_in_order(photos):
    relu, batch = nn.ReLU(), random_batch(photos, 4, 0)
    inner = nn.Sequential(nn.Linear(192, 200), relu, nn.Linear(200, 60), relu)
    model = models.draw_weights(nn.Sequential(nn.Flatten(), inner, nn.Linear(60, 10)), seed=0).double()
    found = spear(model, Client(model).update(batch))
    assert worst_error(found, batch) <= EXACT
    order = metrics.match(found.images.clamp(0, 1), batch.images)
    assert torch.equal(found.labels[order], batch.labels)


def test_deep_and_trained_networks_are_exact(photos):
    deep = models.mlp(size=8, hidden=(200, 100, 50)).double()
    trained = train(network(photos), photos.batch(range(240)), stages=(200,), learning_rate=0.05)[200]
    for model in (deep, trained):
        for seed in range(5):
            batch = random_batch(photos, 4, seed)
            found = spear(model, Client(model).update(batch))
            assert found.exact
            assert worst_error(found, batch) <= EXACT


def test_the_check_rejects_every_wrong_batch(photos):
    model, wrong = network(photos), 0
    for seed in range(20):
        batch = random_batch(photos, 8, seed)
        found = spear(model, Client(model).update(batch), draws=200)
        if worst_error(found, batch) > 1e-3:
            wrong += 1
            assert not found.exact
            assert found.labels is None
            assert max(report_of(found).leaks) > 0.01
            assert report_of(found).residual > 0.01
            assert report_of(found).draws == 200
    assert wrong >= 10


def test_an_unfinished_search_still_returns_finite_images(photos):
    model, batch = network(photos), random_batch(photos, 8, 0)
    found = spear(model, Client(model).update(batch), draws=1)
    assert found.images.shape == batch.images.shape
    assert found.images.isfinite().all()
    assert not found.exact


def test_guided_draws_need_fewer(photos):
    model, draws = network(photos), {True: [], False: []}
    for seed in range(12):
        update = Client(model).update(random_batch(photos, 5, seed))
        for guided, counts in draws.items():
            counts.append(report_of(spear(model, update, guided=guided)).draws)
    medians = {guided: torch.tensor(counts).median() for guided, counts in draws.items()}
    assert 3 * medians[True] < medians[False]


@pytest.mark.parametrize(("level", "least"), [(1e-8, 6), (1e-6, 6), (1e-4, 4)])
def test_with_little_noise_the_error_is_that_of_the_noise(photos, level, least):
    model, close = network(photos), 0
    for seed in range(6):
        batch = random_batch(photos, 4, seed)
        found = spear(model, noisy(Client(model).update(batch), level, seed), draws=5000)
        close += worst_error(found, batch) < 10 * level
        assert found.exact == (max(report_of(found).leaks) <= EXACT)
    assert close >= least


def test_a_single_precision_update_works(photos):
    model, batch = network(photos).float(), random_batch(photos, 4, 1)
    found = spear(model, Client(model).update(batch))
    assert worst_error(found, batch) < 1e-4


def test_several_local_steps_give_the_images_but_not_the_certificate(photos):
    model = network(photos)
    batch = random_batch(photos, 4, 2)
    local = LocalTraining(steps=5, learning_rate=0.01)
    found = spear(model, Client(model, local=local).update(batch), draws=5000)
    assert worst_error(found, batch) <= EXACT
    assert found.labels is None


def test_a_duplicate_appears_once_and_the_result_says_so(photos):
    model, single = network(photos), photos.batch([0, 1, 2])
    batch = Batch(single.images[[0, 1, 1, 2]], torch.tensor([0, 1, 1, 2]))
    found = spear(model, Client(model).update(batch))
    assert len(found.images) == 3
    assert worst_error(found, single) <= EXACT
    assert not found.exact
    assert report_of(found).rank == 3
    assert report_of(found).unknowns == 4


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 5), width=st.integers(60, 150))
def test_what_passes_the_check_is_exact(seed, size, width):
    generator = seeded_generator(seed)
    images = torch.rand(size, 1, 6, 6, generator=generator, dtype=torch.float64)
    batch = Batch(images, torch.randint(10, (size,), generator=generator))
    model = models.mlp(channels=1, size=6, hidden=(width,), seed=seed).double()
    found = spear(model, Client(model).update(batch), draws=5000, seed=seed)
    assert not found.exact or worst_error(found, batch) <= EXACT


@pytest.mark.parametrize("width", [6, 10, 20, 30])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_narrow_layers_fail_but_never_pass_the_check_by_luck(photos, width, size):
    model = network(photos, width=width)
    for seed in range(10):
        batch = random_batch(photos, size, seed)
        found = spear(model, Client(model).update(batch), draws=512)
        assert not found.exact or worst_error(found, batch) <= EXACT


def test_the_same_seed_gives_the_same_result_and_nothing_else_changes(photos, capfd):
    model = network(photos)
    update = Client(model).update(random_batch(photos, 4, 3))
    first = spear(model, update, seed=1)
    with nothing_changes(model, capfd):
        again = spear(model, update, seed=1)
    assert torch.equal(first.images, again.images)
    assert first.layers == again.layers


class RowByRow(nn.Module):
    """A recurrent network: cannot be traced, and its first layer returns a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.linear = nn.GRU(24, 8, batch_first=True), nn.Linear(8, 10)

    def forward(self, images):
        states, _ = self.rows(images.transpose(1, 2).flatten(2))
        return self.linear(states[:, -1])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (models.convnet(size=8), "'conv1'.*Conv2d"),
        (models.mlp(size=8, activation="sigmoid"), "'activation1'.*Sigmoid"),
        (models.mlp(size=8, activation="leaky_relu"), "'activation1'.*LeakyReLU"),
        (models.mlp(size=8, hidden=()), "expected ReLU after layer 'linear', got 'nothing'"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 40, bias=False), nn.ReLU(), nn.Linear(40, 10)), "no bias"),
        (RowByRow(), "expected a fully connected first layer .Linear., got 'rows' .GRU."),
    ],
)
def test_a_layer_it_cannot_handle_is_named(photos, model, message):
    update = Client(model).update(photos.batch([0, 1]))
    with pytest.raises(ValueError, match=message):
        spear(model, update)


def test_bad_input_is_refused(photos):
    model = network(photos)
    update = Client(model).update(photos.batch([0, 1]))
    with pytest.raises(ValueError, match="draws"):
        spear(model, update, draws=0)
    with pytest.raises(ValueError, match="expected ReLU after layer 'model', got 'nothing'"):
        spear(model[1], update)
    with pytest.raises(ValueError, match="expected gradients of"):
        spear(model, dataclasses.replace(update, gradients={}))
    zero = {name: torch.zeros_like(value) for name, value in update.gradients.items()}
    with pytest.raises(ValueError, match="not zero"):
        spear(model, dataclasses.replace(update, gradients=zero))
    narrow = network(photos, width=3)
    with pytest.raises(ValueError, match="a batch of 5 needs"):
        spear(narrow, Client(narrow).update(photos.batch(range(5))))
