"""What defenses rely on in the client: clipping, agreement, improved models, training by rounds, mixed labels."""

import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy as torch_cross_entropy
from victims import fingerprint, nothing_changes, random_batch, small_convnet, small_lenet

from gilib import models
from gilib.data import Batch
from gilib.draws import RandomLayer
from gilib.federated import (
    Client,
    Defense,
    LocalTraining,
    Update,
    as_function,
    as_targets,
    cross_entropy,
    fit,
    local_update,
    train,
)
from gilib.iteration import matching
from gilib.models import blank_linear


def per_sample_gradients(model: nn.Module, batch: Batch) -> list[dict[str, torch.Tensor]]:
    """The gradient of every sample on its own, by backward() on copies."""
    rows = []
    for image, label in zip(batch.images, batch.labels, strict=True):
        one = copy.deepcopy(model)
        torch_cross_entropy(one(image[None]), label[None]).backward()
        rows.append({name: value.grad for name, value in one.named_parameters()})
    return rows


def norm(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in gradients.values()]).norm()


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-9, atol=1e-12)


@settings(max_examples=12, deadline=None)
@given(bound=st.floats(0.01, 20.0), count=st.integers(1, 5), seed=st.integers(0, 1000))
def test_clipping_is_the_mean_of_per_sample_gradients_scaled_down_to_the_bound(bound, count, seed):
    model, batch = small_lenet(), random_batch(count, seed=seed)
    clipped = []
    for gradients in per_sample_gradients(model, batch):
        scale = min(1.0, bound / float(norm(gradients)))
        clipped.append({name: scale * value for name, value in gradients.items()})
    assert max(float(norm(one)) for one in clipped) <= bound * (1 + 1e-9)
    expected = {name: torch.stack([one[name] for one in clipped]).mean(dim=0) for name in clipped[0]}
    assert_same(Client(model, local=LocalTraining(clip=bound)).update(batch).gradients, expected)


@pytest.mark.parametrize("seed", range(3))
def test_one_clipped_sample_has_exactly_the_bound_where_its_gradient_is_longer(seed):
    model, batch = small_lenet(), random_batch(1, seed=seed)
    bound = 0.3 * float(norm(Client(model).update(batch).gradients))
    update = Client(model, local=LocalTraining(clip=bound)).update(batch)
    assert float(norm(update.gradients)) == pytest.approx(bound, rel=1e-9)


@pytest.mark.parametrize("local", [LocalTraining(), LocalTraining(4, 0.2), LocalTraining(3, 0.2, 2)])
def test_a_large_bound_changes_nothing(local):
    model, batch = small_convnet(norm="batch"), random_batch(4)
    clipped = Client(model, local=dataclasses.replace(local, clip=1e6)).update(batch)
    assert_same(clipped.gradients, Client(model, local=local).update(batch).gradients)


class Branching(nn.Module):
    """A network that cannot be mapped: what it computes depends on values of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(192, 5)

    def forward(self, images):
        flat = images.flatten(1)
        return self.linear(flat if flat.mean().item() > 0.5 else flat.square())


@pytest.mark.parametrize("bound", [0.01, 1e6])
def test_clipping_goes_sample_by_sample_where_a_model_cannot_be_mapped(bound):
    model, batch = Branching().double(), random_batch(4)
    alone = per_sample_gradients(model, batch)
    scaled = [{name: min(1, bound / norm(one)) * value for name, value in one.items()} for one in alone]
    expected = {name: torch.stack([one[name] for one in scaled]).mean(dim=0) for name in scaled[0]}
    assert_same(Client(model, local=LocalTraining(clip=bound)).update(batch).gradients, expected)


def test_every_local_step_clips():
    model, batch = small_lenet(), random_batch(1)
    bound = 0.1 * float(norm(Client(model).update(batch).gradients))
    update = Client(model, local=LocalTraining(5, 0.1, clip=bound)).update(batch)
    assert 4 * bound < float(norm(update.gradients)) <= 5 * bound * (1 + 1e-9)


def test_clipping_works_under_vmap_and_its_slope_is_finite_at_a_zero_gradient():
    model, local = small_lenet(), LocalTraining(2, 0.1, clip=0.5)
    forward, parameters = as_function(model)
    stack = torch.stack([random_batch(2, seed=seed).images for seed in range(3)])
    targets = as_targets(torch.tensor([0, 3]), 5)

    def change(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return local_update(forward, parameters, images, targets, loss=cross_entropy, local=local)

    stacked = torch.func.vmap(change)(stack)
    for row, images in enumerate(stack):
        assert_same({name: value[row] for name, value in stacked.items()}, change(images))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False)).double()
    forward, parameters = as_function(flat)
    slope = torch.func.grad(
        lambda x: sum(
            value.square().sum()
            for value in local_update(
                forward, parameters, x, as_targets(torch.tensor([0]), 2), loss=cross_entropy, local=local
            ).values()
        )
    )(torch.zeros(1, 3, 1, 1, dtype=torch.float64))
    assert slope.isfinite().all()


@pytest.mark.parametrize("local", [LocalTraining(clip=0.4), LocalTraining(3, 0.1, 2, clip=0.4)])
@pytest.mark.parametrize("distance", [matching.squared_l2(), matching.cosine()])
def test_the_objective_of_a_clipped_client_is_zero_at_the_truth(local, distance):
    model, batch = small_convnet(), random_batch(4)
    update = Client(model, local=local).update(batch)
    forward, parameters = as_function(model, mode=update.mode)
    targets = as_targets(batch.labels, 5)

    def objective(images: torch.Tensor, agreed: LocalTraining) -> float:
        made = local_update(forward, parameters, images, targets, loss=update.loss, local=agreed)
        return float(distance(made, update.gradients))

    assert objective(batch.images, update.local) < 1e-12
    assert objective(batch.images.flip(-1), update.local) > 1e-6
    assert objective(batch.images, dataclasses.replace(local, clip=None)) > 1e-6


class Coin(RandomLayer):
    """A layer that multiplies by a number it draws, as small as a random layer can be."""

    def sample(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.rand(inputs.shape, generator=generator, dtype=inputs.dtype)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * self.draws if self.draws.numel() else inputs


def test_clipping_refuses_batch_norm_in_train_mode():
    client = Client(small_convnet(norm="batch"), mode="train", local=LocalTraining(clip=1.0))
    with pytest.raises(ValueError, match="gradient of every sample on its own"):
        client.update(random_batch(3))
    Client(small_convnet(norm="batch"), local=LocalTraining(clip=1.0)).update(random_batch(3))


def test_random_layers_refuse_clipping_and_local_steps():
    model = nn.Sequential(Coin(), nn.Flatten(), nn.Linear(192, 5)).double()
    Client(model).update(random_batch(2))
    with pytest.raises(ValueError, match="no random layers"):
        Client(model, local=LocalTraining(clip=1.0)).update(random_batch(2))
    with pytest.raises(ValueError, match="draw once for the whole batch"):
        Client(model, local=LocalTraining(steps=2)).update(random_batch(2))


class Agree(Defense):
    def __init__(self, **changes: float) -> None:
        self.changes = changes

    def agree(self, local: LocalTraining) -> LocalTraining:
        return dataclasses.replace(local, **self.changes)


def test_defenses_agree_one_after_another_and_the_update_says_so():
    model, batch = small_lenet(), random_batch(2)
    client = Client(model, defenses=[Agree(steps=4, clip=9.0), Agree(clip=0.5)])
    update = client.update(batch)
    assert update.local == LocalTraining(steps=4, clip=0.5)
    assert_same(update.gradients, Client(model, local=update.local).update(batch).gradients)
    assert client.local == LocalTraining()


class Noted(Defense):
    """Writes down the order in which its methods see the update."""

    def __init__(self, order: list[str], name: str) -> None:
        self.order, self.called = order, name

    def withhold(self, update: Update, *, model: nn.Module, batch: Batch) -> Update:
        self.order.append(f"{self.called} withholds")
        return update

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        self.order.append(f"{self.called} protects")
        return update


def test_a_defense_withholds_just_before_it_protects_and_one_defense_after_another():
    order: list[str] = []
    Client(small_lenet(), defenses=[Noted(order, "first"), Noted(order, "second")]).update(random_batch(2))
    assert order == ["first withholds", "first protects", "second withholds", "second protects"]


class Widened(nn.Sequential):
    """A model that ``Halve`` has improved."""


class Halve(Defense):
    """Halves the logits, once."""

    def improve(self, model: nn.Module) -> nn.Module:
        if isinstance(model, Widened):
            return model
        scale = blank_linear(5, 5, bias=False).double()
        scale.weight.data = 0.5 * torch.eye(5, dtype=torch.float64)
        return Widened(copy.deepcopy(model), scale)


def test_the_improved_model_is_the_one_that_is_trained():
    model, batch = small_lenet(), random_batch(2)
    client = Client(model, defenses=[Halve()])
    improved = client.improved()
    torch.testing.assert_close(improved(batch.images), 0.5 * model(batch.images))
    assert_same(client.update(batch).gradients, Client(improved).update(batch).gradients)
    assert dataclasses.replace(client, model=improved).improved() is improved
    assert Client(model).improved() is model


def test_fit_without_defenses_is_training():
    model, batch = small_lenet(), random_batch(40)
    options = {"learning_rate": 0.05, "momentum": 0.9, "batch_size": 8, "seed": 3}
    for rounds in (0, 1, 15):
        [ours] = train(model, batch, stages=[rounds], **options).values()
        fitted = fit(Client(model), batch, rounds=rounds, **options)
        assert_same(dict(fitted.named_parameters()), dict(ours.named_parameters()))
    assert not fitted.training


def test_fit_with_local_steps_and_without_momentum_is_federated_averaging():
    model, batch = small_lenet(), random_batch(6)
    local = LocalTraining(steps=4, learning_rate=0.1)
    fitted = fit(Client(model, local=local), batch, rounds=3, learning_rate=0.1, momentum=0.0, batch_size=6)
    trained = copy.deepcopy(model)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    for _ in range(12):  # the batch is everything the client holds, so 3 rounds of 4 steps are 12 steps
        optimizer.zero_grad()
        torch_cross_entropy(trained(batch.images), batch.labels).backward()
        optimizer.step()
    assert_same(
        {name: value.detach() for name, value in fitted.named_parameters()},
        {name: value.detach() for name, value in trained.named_parameters()},
    )


def test_fit_leaves_the_callers_model_alone_and_depends_on_the_seed_only(capfd):
    model, batch = small_lenet(), random_batch(20)
    client = Client(model, defenses=[Halve()])
    with nothing_changes(model, capfd):
        first, again, other = (fit(client, batch, rounds=5, batch_size=4, seed=seed) for seed in (0, 0, 1))
    assert isinstance(first, Widened)
    assert fingerprint(first) == fingerprint(again)
    assert fingerprint(first) != fingerprint(other)


class Rounds(Defense):
    """Remembers a draw of every round."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        self.seen.append(float(torch.rand((), generator=generator)))
        return update


def test_every_round_of_fit_has_draws_of_its_own():
    defense = Rounds()
    fit(Client(small_lenet(), defenses=[defense]), random_batch(8), rounds=6, batch_size=4)
    assert len(set(defense.seen)) == 6


def test_fit_says_what_to_lower_where_training_explodes():
    with pytest.raises(ValueError, match="lower learning_rate"):
        fit(Client(small_convnet()), random_batch(8), rounds=30, learning_rate=1e200, batch_size=4)


def test_mixed_labels_are_targets():
    model, batch = small_lenet(), random_batch(3)
    mixed = as_targets(batch.labels, 5)
    assert_same(Client(model).update(Batch(batch.images, mixed)).gradients, Client(model).update(batch).gradients)
    shared = Client(model, share_labels=True).update(Batch(batch.images, mixed)).labels
    assert shared is not None
    assert torch.equal(shared, mixed)
    halves = Batch(batch.images[:1], 0.5 * mixed[:1] + 0.5 * mixed[:1].roll(1, dims=1))
    pure = [Client(model).update(Batch(halves.images, label)).gradients for label in (mixed[:1], mixed[:1].roll(1, 1))]
    half = Client(model).update(halves).gradients
    assert_same(half, {name: (pure[0][name] + pure[1][name]) / 2 for name in half})


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([[0.5, 0.4], [1.0, 0.0]]),
        torch.tensor([[1.5, -0.5], [1.0, 0.0]]),
        torch.tensor([[float("nan"), 1.0], [1.0, 0.0]]),
        torch.tensor([[0.5, 0.5]]),
    ],
)
def test_mixed_labels_that_are_no_probabilities_are_refused(labels):
    model = models.mlp(2, channels=1, size=4, hidden=()).double()
    with pytest.raises(ValueError, match=r"probabilities that sum to one|mixed labels|one label|finite|shape"):
        Client(model).update(Batch(torch.zeros(2, 1, 4, 4), labels))


def test_sent_only_compares_what_was_sent():
    model, batch = small_lenet(), random_batch(2)
    full = Client(model).update(batch).gradients
    cut = torch.cat([value.flatten().abs() for value in full.values()]).quantile(0.9)
    pruned = {name: value * (value.abs() >= cut) for name, value in full.items()}
    for distance in (matching.squared_l2(), matching.cosine(), matching.l1()):
        assert float(matching.sent_only(distance)(full, pruned)) < 1e-12
        assert float(distance(full, pruned)) > 1e-6
        moved = {name: value + 0.1 * full[name].flip(0) for name, value in full.items()}
        assert float(matching.sent_only(distance)(moved, pruned)) > 1e-6
        torch.testing.assert_close(matching.sent_only(distance)(moved, full), distance(moved, full))
