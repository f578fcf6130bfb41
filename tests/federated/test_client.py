"""The client: its gradients against hand-written training, what it shares, and what it must leave alone."""

import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy as torch_cross_entropy
from victims import fingerprint, nothing_changes, random_batch, small_convnet, small_lenet

from gilib import data, models
from gilib.data import Batch
from gilib.federated import (
    Client,
    Defense,
    LocalTraining,
    Update,
    as_function,
    as_targets,
    cross_entropy,
    local_update,
    seeded_generator,
    train,
)


def plain_gradients(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """What backward() gives, on a copy."""
    model = copy.deepcopy(model)
    torch_cross_entropy(model(batch.images), batch.labels).backward()
    return {name: value.grad for name, value in model.named_parameters()}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], *, rtol: float = 1e-9) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=rtol, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 6), classes=st.integers(2, 7), seed=st.integers(0, 2**31))
def test_our_cross_entropy_is_the_usual_one(count, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (count,), generator=generator)
    ours = cross_entropy(logits, as_targets(labels, classes))
    torch.testing.assert_close(ours, torch_cross_entropy(logits, labels))
    soft = torch.randn(count, classes, generator=generator, dtype=torch.float64).softmax(1)
    torch.testing.assert_close(cross_entropy(logits, as_targets(soft, classes)), torch_cross_entropy(logits, soft))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("norm", [None, "batch"])
def test_one_step_gives_the_gradient(mode, norm):
    model, batch = small_convnet(norm=norm), random_batch(3)
    update = Client(model, mode=mode).update(batch)
    assert_same(update.gradients, plain_gradients(model.train(mode == "train"), batch))


def test_the_two_modes_of_batch_norm_differ():
    model, batch = small_convnet(norm="batch"), random_batch(3)
    one, other = (Client(model, mode=mode).update(batch).gradients for mode in ("eval", "train"))
    assert max(float((one[name] - other[name]).abs().max()) for name in one) > 1e-3


@settings(max_examples=15, deadline=None)
@given(rate=st.floats(1e-4, 1.0), count=st.integers(1, 4), seed=st.integers(0, 1000))
def test_one_step_of_federated_averaging_divided_by_minus_the_rate_is_the_gradient(rate, count, seed):
    model, batch = small_convnet(), random_batch(count, seed=seed)
    trained = copy.deepcopy(model)
    optimizer = torch.optim.SGD(trained.parameters(), lr=rate)
    torch_cross_entropy(trained(batch.images), batch.labels).backward()
    optimizer.step()
    before, after = dict(model.named_parameters()), dict(trained.named_parameters())
    change = {name: ((after[name] - before[name]) / -rate).detach() for name in before}
    update = Client(model, local=LocalTraining(steps=1, learning_rate=rate)).update(batch)
    for name in change:
        torch.testing.assert_close(update.gradients[name], change[name], rtol=1e-6, atol=1e-10)
    assert_same(update.gradients, Client(model, local=LocalTraining(batch_size=count)).update(batch).gradients)


@settings(max_examples=20, deadline=None)
@given(hidden=st.sampled_from([(), (7,), (9, 6)]), seed=st.integers(0, 1000))
def test_a_fully_connected_layer_with_bias_gives_its_input_away(hidden, seed):
    """One sample: row i of the weight gradient is the input times entry i of the bias gradient."""
    model = models.mlp(5, size=8, hidden=hidden, activation="tanh", seed=seed).double()
    batch = random_batch(1, seed=seed)
    gradients = Client(model).update(batch).gradients
    weight, bias = (next(value for name, value in gradients.items() if kind in name) for kind in ("weight", "bias"))
    row = bias.abs().argmax()
    torch.testing.assert_close(weight[row] / bias[row], batch.images.flatten(), rtol=1e-12, atol=1e-14)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 6), seed=st.integers(0, 1000))
def test_bias_gradients_of_the_last_layer_sum_to_zero_and_count_the_labels(count, seed):
    model, batch = small_lenet(seed), random_batch(count, seed=seed)
    bias = Client(model).update(batch).gradients["linear.bias"]
    assert abs(float(bias.sum())) < 1e-12
    mean_probability = model(batch.images).softmax(1).mean(0).detach()
    counts = count * (mean_probability - bias)
    torch.testing.assert_close(counts, torch.bincount(batch.labels, minlength=5).double(), atol=1e-10, rtol=0)


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 6), seed=st.integers(0, 1000))
def test_the_weight_gradient_of_a_fully_connected_layer_has_rank_at_most_the_batch_size(count, seed):
    model = models.mlp(12, size=8, hidden=(16,), activation="tanh", seed=seed).double()
    gradients = Client(model).update(random_batch(count, classes=12, seed=seed)).gradients
    for value in (gradients["linear1.weight"], gradients["linear.weight"]):
        singular = torch.linalg.svdvals(value)
        assert int((singular > 1e-12 * singular[0]).sum()) <= count


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("local", [LocalTraining(), LocalTraining(steps=3), LocalTraining(steps=3, batch_size=2)])
def test_a_client_changes_nothing(mode, local, capfd):
    model = small_convnet(norm="batch").train()
    model[1].eval()  # a mixed state comes back as it was
    with nothing_changes(model, capfd):
        Client(model, mode=mode, local=local, share_labels=True, share_buffers=True).update(random_batch(4))


def test_an_update_carries_only_what_the_threat_model_shares():
    model, batch = small_convnet(norm="batch"), random_batch(2)
    update = Client(model).update(batch)
    assert update.labels is None
    assert update.buffers is None
    assert (update.batch_size, update.image_shape, update.public) == (2, (3, 8, 8), {})
    shared = Client(model, share_labels=True, share_buffers=True).update(batch)
    assert torch.equal(shared.labels, batch.labels)
    assert shared.labels.data_ptr() != batch.labels.data_ptr()
    torch.testing.assert_close(shared.buffers["norm1.running_mean"], model.norm1.running_mean)


def test_shared_buffers_are_those_after_one_pass_in_train_mode():
    model, batch = small_convnet(norm="batch"), random_batch(3)
    shared = Client(model, share_buffers=True, mode="train").update(batch)
    trained = copy.deepcopy(model).train()
    trained(batch.images)
    assert_same(shared.buffers, dict(trained.named_buffers()))
    assert not torch.equal(shared.buffers["norm1.running_mean"], model.norm1.running_mean)


class Recorder(Defense):
    """Writes down what it is called with, and draws."""

    def __init__(self, name: str, log: list) -> None:
        self.label, self.log = name, log

    @property
    def name(self) -> str:
        return self.label

    @property
    def public(self) -> dict[str, object]:
        return {"strength": self.label}

    def obscure(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        self.log.append(("obscure", self.label, float(torch.rand(1, generator=generator))))
        return Batch(batch.images / 2, batch.labels)

    def improve(self, model: nn.Module) -> nn.Module:
        self.log.append(("improve", self.label, 0.0))
        return model

    def agree(self, local: LocalTraining) -> LocalTraining:
        self.log.append(("agree", self.label, 0.0))
        return dataclasses.replace(local, steps=local.steps + 1)

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        self.log.append(("protect", self.label, float(torch.rand(1, generator=generator))))
        return update


def test_defenses_are_called_in_order_and_what_they_make_public_is_listed():
    log: list = []
    model, batch = small_convnet(), random_batch(2)
    client = Client(model, defenses=[Recorder("first", log), Recorder("second", log)], seed=3)
    update = client.update(batch)
    assert [(method, label) for method, label, _ in log] == [
        ("improve", "first"),
        ("improve", "second"),
        ("obscure", "first"),
        ("agree", "first"),
        ("obscure", "second"),
        ("agree", "second"),
        ("protect", "first"),
        ("protect", "second"),
    ]
    assert update.public == {"first": {"strength": "first"}, "second": {"strength": "second"}}
    assert update.local.steps == 3
    plain = Client(model, local=update.local).update(Batch(batch.images / 4, batch.labels))
    assert_same(update.gradients, plain.gradients)
    draws = [draw for _, _, draw in log]
    log.clear()
    client.update(batch)
    assert [draw for _, _, draw in log] == draws  # the same round draws the same
    log.clear()
    client.update(batch, round=1)
    assert log[2][2] != draws[2]


def test_a_plain_defense_does_nothing():
    model, batch = small_convnet(), random_batch(2)
    defended = Client(model, defenses=[Defense()]).update(batch)
    assert_same(defended.gradients, Client(model).update(batch).gradients)
    assert defended.public == {"Defense": {}}


def test_an_improved_model_is_trained_and_the_original_left_alone(capfd):
    class Doubled(Defense):
        def improve(self, model: nn.Module) -> nn.Module:
            better = copy.deepcopy(model)
            with torch.no_grad():
                better.conv1.weight.mul_(2)
            return better

    model, batch = small_convnet(), random_batch(2)
    with nothing_changes(model, capfd):
        update = Client(model, defenses=[Doubled()]).update(batch)
    assert_same(update.gradients, plain_gradients(Doubled().improve(model).eval(), batch))


def test_frozen_parameters_are_not_shared():
    model = small_convnet()
    model.conv1.weight.requires_grad_(False)
    gradients = Client(model).update(random_batch()).gradients
    assert "conv1.weight" not in gradients
    assert "conv1.bias" in gradients


def test_float32_images_are_exact_in_a_float64_model():
    batch = random_batch(1)
    single = Batch(batch.images.float(), batch.labels)
    exact = Client(small_lenet()).update(Batch(single.images.double(), single.labels))
    assert_same(Client(small_lenet()).update(single).gradients, exact.gradients, rtol=0)


def test_local_update_is_differentiable_in_images_and_targets():
    forward, parameters = as_function(small_lenet())
    batch = random_batch(2)
    images, targets = batch.images.clone().requires_grad_(), as_targets(batch.labels, 5).requires_grad_()

    def total(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        local = LocalTraining(steps=2, batch_size=1)
        update = local_update(forward, parameters, images, targets, loss=cross_entropy, local=local)
        return sum(value.square().sum() for value in update.values())

    assert torch.autograd.gradcheck(lambda y: total(images.detach(), y), (targets,))
    [slope] = torch.autograd.grad(total(images, targets.detach()), [images])
    step = 1e-6 * torch.ones_like(images)
    difference = (total(images + step, targets) - total(images - step, targets)) / 2
    torch.testing.assert_close((slope * step).sum(), difference, rtol=1e-5, atol=0)


@settings(max_examples=50, deadline=None)
@given(key=st.lists(st.integers(0, 2**40), min_size=1, max_size=4), place=st.integers(0, 3))
def test_generators_depend_on_every_part_of_the_key(key, place):
    draw = torch.rand(4, generator=seeded_generator(*key))
    assert torch.equal(draw, torch.rand(4, generator=seeded_generator(*key)))
    other = list(key)
    other[place % len(key)] += 1
    assert not torch.equal(draw, torch.rand(4, generator=seeded_generator(*other)))
    assert not torch.equal(draw, torch.rand(4, generator=seeded_generator(*key, 0)))


def test_generators_do_not_depend_on_the_sum_of_the_key():
    draws = {tuple(torch.rand(2, generator=seeded_generator(a, b)).tolist()) for a in range(12) for b in range(12)}
    assert len(draws) == 144


@pytest.mark.parametrize(
    "settings, name",
    [
        ({"steps": 0}, "steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_local_training_refuses_what_is_not_positive(settings, name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        LocalTraining(**settings)


def test_a_batch_that_cannot_be_filled_is_refused_where_the_last_one_is_dropped():
    local = LocalTraining(batch_size=3, drop_last=True)
    with pytest.raises(ValueError, match=r"local batch of 3 needs at least 3 samples .* the client holds 2"):
        Client(small_convnet(), local=local).update(random_batch(2))


def test_labels_outside_the_classes_are_refused():
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.4, .*got 1\.\.5"):
        Client(small_convnet()).update(Batch(random_batch(2).images, torch.tensor([1, 5])))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.4"):
        as_targets(torch.tensor([-1]), 5)


def test_training_is_plain_sgd_with_momentum_and_stages_lie_on_one_path():
    model, batch = small_convnet(norm="batch"), random_batch(6)
    before = fingerprint(model)
    stages = train(model, batch, stages=(0, 1, 3), learning_rate=0.1, batch_size=6, seed=4)
    assert fingerprint(model) == before
    assert list(stages) == [0, 1, 3]
    assert not any(stage.training for stage in stages.values())
    by_hand = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9)
    for step in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(by_hand(batch.images), batch.labels).backward()
        optimizer.step()
        if step == 0:
            assert_same(dict(by_hand.named_parameters()), dict(stages[1].named_parameters()))
    assert_same(dict(by_hand.named_parameters()), dict(stages[3].named_parameters()))
    assert_same(dict(by_hand.named_buffers()), dict(stages[3].named_buffers()))
    assert all(parameter.grad is None for stage in stages.values() for parameter in stage.parameters())


def test_training_learns_and_depends_on_its_seed_alone():
    digits = data.load("digits")
    model, batch = models.mlp(channels=1, size=8, hidden=(16,)).double(), Batch(digits.images, digits.labels)
    torch.manual_seed(0)
    first = train(model, batch, stages=(200,))[200]
    torch.manual_seed(1)
    second, other = train(model, batch, stages=(200,))[200], train(model, batch, stages=(200,), seed=1)[200]
    assert (first(digits.images.double()).argmax(1) == digits.labels).double().mean() > 0.9
    assert torch.equal(first.linear.weight, second.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)


@pytest.mark.parametrize("stages", [(), (3, 1), (-1,), (1, 1)])
def test_stages_must_rise(stages):
    with pytest.raises(ValueError, match="rising numbers of steps"):
        train(small_convnet(), random_batch(4), stages=stages)


def test_training_that_explodes_is_an_error():
    with pytest.raises(ValueError, match="lower learning_rate=1e"):
        train(small_convnet(), random_batch(4), stages=(50,), learning_rate=1e200)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode must be 'eval' or 'train'; got 'test'"):
        Client(small_convnet(), mode="test").update(random_batch())


def test_a_model_without_trainable_parameters_is_refused():
    with pytest.raises(ValueError, match="no trainable parameters"):
        Client(nn.Flatten()).update(random_batch())
