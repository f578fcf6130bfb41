"""Labels: who may read them, and iDLG's rule."""

import dataclasses
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from victims import random_batch, small_attack, small_lenet

from gilib import data, models
from gilib.data import Batch
from gilib.federated import Client, LocalTraining, Update, cross_entropy, logistic, train
from gilib.iteration import labels as label_rules
from gilib.iteration.labels import (
    column_minimum,
    counts,
    idlg,
    joint,
    known,
    labels_of,
    llg,
    rlg,
    rlg_classes,
)
from gilib.iteration.last_layer import last_layer, row_sums

DIGITS = data.load("digits")
NOISE = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def test_known_refuses_where_the_threat_model_does_not_give_labels():
    update = Client(small_lenet()).update(random_batch(1))
    with pytest.raises(ValueError, match=r"does not carry them.*share_labels=True"):
        known().restore(update)
    with pytest.raises(ValueError, match="known\\(\\) needs the victim's labels"):
        small_attack().reconstruct(small_lenet(), update)


def test_known_returns_the_labels_it_was_given():
    batch = random_batch(3)
    update = Client(small_lenet(), share_labels=True).update(batch)
    assert torch.equal(known().restore(update), batch.labels)


def test_joint_and_idlg_read_no_labels():
    """The same result whatever the update claims the labels to be."""
    model, batch = small_lenet(), random_batch(1)
    honest = Client(model).update(batch)
    lying = dataclasses.replace(honest, labels=(batch.labels + 1) % 5)
    for labels in (joint(), idlg()):
        attack = small_attack(labels=labels)
        one, other = (attack.reconstruct(model, update) for update in (honest, lying))
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
    assert joint().restore(lying) is None


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6), classes=st.integers(2, 12), activation=st.sampled_from(["sigmoid", "relu", "softplus"])
)
def test_idlg_finds_the_label_where_features_are_positive(seed, classes, activation):
    model = models.lenet(classes, size=8, activation=activation, seed=seed).double()
    batch = random_batch(1, classes=classes, seed=seed)
    update = Client(model).update(batch)
    features = model[:-1](batch.images)
    scores = row_sums(last_layer(update, model)[0])
    assert torch.equal(idlg().restore(update, model), batch.labels)
    certain = update.gradients["linear.bias"].abs().max() < 1e-9  # what is left of such errors is rounding
    if features.sum() > 1e-6 and not certain:  # ReLU features can all be zero
        assert (scores < 0).sum() == 1
    probabilities = model(batch.images).softmax(1)[0]
    expected = (probabilities - nn.functional.one_hot(batch.labels, classes)[0]) * features.sum()
    torch.testing.assert_close(scores, expected.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_where_features_are_negative_the_bias_gradient_tells(activation):
    """Row sums, which the paper takes, turn around with the features; the errors themselves do not."""
    misled = 0
    for seed in range(20):
        model = models.lenet(5, size=8, activation=activation, seed=seed, bound=0.1).double()
        batch = random_batch(1, seed=seed)
        update = Client(model).update(batch)
        for rule in (idlg(), llg(), column_minimum(), counts()):
            assert torch.equal(rule.restore(update, model), batch.labels), rule
        misled += int(row_sums(last_layer(update, model)[0]).argmin() != batch.labels)
    assert misled > 0


class Head(nn.Module):
    """A network whose last layer is defined first, with or without a bias, behind features of either sign."""

    def __init__(self, classes: int = 5, *, bias: bool = True) -> None:
        super().__init__()
        self.head = nn.Linear(16, classes, bias=bias)
        self.body = nn.Linear(192, 16)
        models.draw_weights(nn.Sequential(self.head, self.body), seed=3)
        self.double()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images.flatten(1)).tanh())


@pytest.mark.parametrize("bias", [True, False])
def test_the_last_layer_is_the_one_that_runs_last(bias):
    model = Head(bias=bias)
    for seed in range(8):
        batch = random_batch(1, seed=seed)
        update = Client(model).update(batch)
        assert torch.equal(idlg().restore(update, model), batch.labels)
        if bias:
            for rule in (llg(), counts(), column_minimum(), rlg()):
                assert torch.equal(rule.restore(update, model), batch.labels), rule


def test_without_a_bias_only_a_single_sample_is_read_behind_features_of_either_sign():
    for count, classes in ((2, 5), (1, 2)):
        model = Head(classes, bias=False)
        update = Client(model).update(random_batch(count, classes=classes))
        with pytest.raises(ValueError, match="do not tell the label, and no bias gradient is shared"):
            llg().restore(update, model)


def test_a_frozen_last_layer():
    model, batch = Head(), random_batch(1)
    model.head.weight.requires_grad_(False)
    assert torch.equal(idlg().restore(Client(model).update(batch), model), batch.labels)  # the bias is enough
    with pytest.raises(ValueError, match=r"weight gradient of the last layer is needed"):
        counts().restore(Client(model).update(batch), model)
    model.head.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter of the model is a last layer"):
        idlg().restore(Client(model).update(batch), model)


def half(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return 0.5 * cross_entropy(logits, targets)


@pytest.mark.parametrize(
    "loss",
    [half, nn.CrossEntropyLoss(reduction="sum"), nn.CrossEntropyLoss(label_smoothing=0.2)],
    ids=["half", "sum", "smoothed"],
)
@pytest.mark.parametrize("local", [LocalTraining(), LocalTraining(epochs=2, batch_size=5, learning_rate=1e-4)])
def test_counts_allows_for_the_scale_of_the_loss(loss, local):
    model, batch = models.convnet(channels=1, size=8).double(), digits(10, seed=1)
    update = Client(model, loss=loss, local=local).update(batch)
    assert torch.equal(counts().restore(update, model), batch.labels.sort().values)


@pytest.mark.parametrize(
    "options",
    [{"momentum": 0.9}, {"weight_decay": 0.5}, {"momentum": 0.5, "weight_decay": 0.1}, {"optimizer": "adamw"}],
)
def test_labels_of_clients_with_other_optimizers(options):
    model = models.convnet(channels=1, size=8, widths=(8, 16)).double()
    with torch.no_grad():
        model.linear.bias.add_(torch.linspace(-1, 1, 10))  # weight decay on it must be allowed for
    local = LocalTraining(steps=3, learning_rate=1e-4, **options)
    for seed in range(10):
        batch = digits(1, seed=seed)
        assert torch.equal(idlg().restore(Client(model, local=local).update(batch), model), batch.labels)
    batch = digits(8, seed=0)
    update = Client(model, local=local).update(batch)
    if options.get("optimizer"):
        with pytest.raises(ValueError, match="every entry has its own scale"):
            counts().restore(update, model)
    else:
        assert torch.equal(counts().restore(update, model), batch.labels.sort().values)


@pytest.mark.parametrize("label", [0, 1])
def test_one_logit_is_a_choice_between_two_classes(label):
    model = models.mlp(1, channels=1, size=8, hidden=(32,)).double()
    batch = Batch(DIGITS.images[:1], torch.tensor([label]))
    update = Client(model, loss=logistic, share_labels=True).update(batch)
    for rule in (idlg(), llg(), counts(), column_minimum(), known()):
        assert rule.restore(update, model).tolist() == [label], rule
    found = small_attack(labels=joint(), iterations=2).reconstruct(model, update)
    assert found.labels.shape == (1,)
    assert found.labels.item() in (0, 1)


def test_one_logit_and_several_samples():
    model = models.mlp(1, channels=1, size=8, hidden=(32,)).double()
    batch = Batch(DIGITS.images[:6], torch.tensor([0, 1, 1, 0, 1, 1]))
    update = Client(model, loss=logistic).update(batch)
    assert counts().restore(update, model).tolist() == [0, 0, 1, 1, 1, 1]


def test_smoothed_and_weighted_losses_are_read_by_trying_every_label():
    model = models.mlp(channels=1, size=8, hidden=(32,), activation="tanh").double()
    weight = torch.linspace(0.2, 3.0, 10, dtype=torch.float64)
    for loss in (nn.CrossEntropyLoss(label_smoothing=0.3), nn.CrossEntropyLoss(weight=weight, reduction="sum")):
        for seed in range(10):
            batch = digits(1, seed=seed)
            update = Client(model, loss=loss).update(batch)
            assert torch.equal(idlg().restore(update, model), batch.labels)
    with pytest.raises(ValueError, match=r"a multiple of p - y"):
        counts().restore(update, model)  # a loss with weights


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.BCEWithLogitsLoss()], ids=["regression", "several labels"])
def test_targets_that_are_not_one_class_are_given_or_refused(loss):
    model, images = models.mlp(3, size=8, hidden=(16,)).double(), random_batch(2).images
    targets = torch.tensor([[1.0, 1.0, 0.0], [0.3, -2.0, 1.0]], dtype=torch.float64)
    update = Client(model, loss=loss, share_labels=True).update(Batch(images, targets))
    for rule in (counts(), llg(), column_minimum(), joint()):
        with pytest.raises(ValueError, match=r"several labels an image"):
            rule.restore(update, model)
    single = Client(model, loss=loss).update(Batch(images[1:], targets[1:]))
    with pytest.raises(ValueError, match="no label explains the gradient"):
        idlg().restore(single, model)
    found = small_attack(iterations=2).reconstruct(model, update)
    assert torch.equal(found.labels, targets)


def test_a_gradient_that_says_nothing_is_not_read():
    model = models.lenet(1, size=8).double()
    with pytest.raises(ValueError, match="is zero and says nothing"):
        idlg().restore(Client(model).update(Batch(random_batch(1).images, torch.tensor([0]))), model)
    sure = models.lenet(5, size=8)
    with torch.no_grad():
        sure.linear.weight.fill_(-1.0)
        sure.linear.weight[2] = 1.0
    update = Client(sure).update(Batch(random_batch(1).images.float(), torch.tensor([2])))
    assert 0 < max(float(value.abs().max()) for value in update.gradients.values()) < 1e-19
    with pytest.raises(ValueError, match=r"squares underflow in torch\.float32"):
        counts().restore(update, sure)


def test_the_set_of_labels_in_single_precision():
    model = models.convnet(channels=1, size=8)
    for seed in range(10):
        batch = digits(4, seed=seed, distinct=True)
        assert torch.equal(rlg().restore(Client(model).update(batch), model), batch.labels.sort().values)


def test_idlg_refuses_batches():
    model = small_lenet()
    with pytest.raises(ValueError, match=r"label of a single sample; this update comes from 2"):
        idlg().restore(Client(model).update(random_batch(2)), model)


def test_a_convolution_that_is_averaged_is_a_last_layer_too():
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    batch = random_batch(1)
    assert torch.equal(idlg().restore(Client(model).update(batch), model), batch.labels)


def test_reconstructions_report_the_labels_that_were_used():
    model, batch = small_lenet(), random_batch(2)
    update = Client(model, share_labels=True).update(batch)
    assert torch.equal(small_attack().reconstruct(model, update).labels, batch.labels)
    found = small_attack(labels=joint()).reconstruct(model, update).labels
    assert found.shape == (2,)
    assert found.dtype == torch.int64


def digits(count: int, *, seed: int, distinct: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(DIGITS.images), generator=generator)
    if distinct:  # the first sample of each class in this order, then `count` of the classes
        order = torch.stack(
            [order[DIGITS.labels[order] == label][0] for label in torch.randperm(10, generator=generator)]
        )
    return Batch(DIGITS.images[order[:count]], DIGITS.labels[order[:count]])


def overlap(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Share of labels found, as multisets."""
    ours, theirs = (torch.bincount(labels, minlength=10) for labels in (found, truth))
    return float(torch.minimum(ours, theirs).sum() / len(truth))


def accuracy(rule, model: nn.Module, size: int, *, distinct: bool = False, batches: int = 25) -> float:
    shares = []
    for seed in range(batches):
        batch = digits(size, seed=seed, distinct=distinct)
        found = rule.restore(Client(model).update(batch), model)
        assert found.dtype == torch.int64
        assert torch.equal(found, found.sort().values)
        shares.append(overlap(found, batch.labels))
    return sum(shares) / len(shares)


NETWORKS = {"convnet": models.convnet, "lenet": models.lenet, "mlp": models.mlp, "resnet": models.resnet}


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_counts_finds_repeated_labels_in_untrained_models(build):
    model = build(channels=1, size=8).double()
    assert accuracy(counts(), model, 32) >= 0.95
    assert accuracy(llg(NOISE), model, 32) >= 0.9
    assert accuracy(counts(), model, 4) == 1


@pytest.mark.parametrize("rule", [counts(), llg(NOISE)], ids=["counts", "llg"])
def test_several_local_steps_are_averaged(rule):
    """The update of T steps is a sum of T gradients: with a small rate it says what one step says."""
    model = models.convnet(channels=1, size=8).double()
    for seed in range(5):
        batch, local = digits(32, seed=seed), LocalTraining(steps=5, learning_rate=1e-4)
        assert overlap(rule.restore(Client(model, local=local).update(batch), model), batch.labels) >= 0.9


def test_counts_falls_on_a_trained_model():
    everything = Batch(DIGITS.images, DIGITS.labels)
    model = models.convnet(channels=1, size=8, widths=(8, 16)).double()
    trained = train(model, everything, stages=(200,), learning_rate=0.05)[200]
    right = trained(DIGITS.images.double()).argmax(1) == DIGITS.labels
    assert right.double().mean() > 0.9
    assert accuracy(counts(), model, 32) >= 0.95
    assert accuracy(counts(), trained, 32) < 0.6


def test_distinct_labels_at_initialization():
    model = models.convnet(channels=1, size=8).double()
    for rule in (column_minimum(), llg(), llg(NOISE), rlg()):
        assert accuracy(rule, model, 4, distinct=True) >= 0.97, rule


def test_sets_of_labels_behind_features_of_either_sign():
    model = models.lenet(channels=1, size=8, activation="tanh").double()
    assert accuracy(rlg(), model, 4, distinct=True) == 1
    for rule in (column_minimum(), llg()):  # the bias gradient alone, a mean over the batch
        assert accuracy(rule, model, 4, distinct=True) >= 0.85, rule
    misled = 0
    for seed in range(10):
        batch = digits(4, seed=seed, distinct=True)
        weight, _ = last_layer(Client(model).update(batch), model)
        misled += overlap(weight.min(dim=1).values.argsort()[:4], batch.labels) < 1  # the rule of the paper
    assert misled > 0


def test_llg_without_images_misses_repeated_labels():
    """Its estimate of the impact leaves out what the positive rows hide."""
    assert accuracy(llg(), models.convnet(channels=1, size=8).double(), 32) < 0.8


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 64), values=st.lists(st.floats(-3, 20), min_size=2, max_size=12))
def test_rounding_counts_keeps_the_batch_size(size, values):
    counted = torch.tensor(values, dtype=torch.float64)
    if counted.clamp(min=0).sum() < 1e-3:
        return
    found = torch.bincount(labels_of(counted, size), minlength=len(values))
    assert found.sum() == size
    share = counted.clamp(min=0) * size / counted.clamp(min=0).sum()
    assert (found - share).abs().max() < 1


def test_whole_counts_are_kept():
    assert labels_of(torch.tensor([2.0, 0.0, 3.0]), 5).tolist() == [0, 0, 2, 2, 2]


def test_what_label_restoration_refuses():
    model = small_lenet()
    update = Client(model).update(random_batch(6))
    with pytest.raises(ValueError, match="6 samples cannot have different labels out of 5 classes"):
        column_minimum().restore(update, model)
    one = Client(model).update(random_batch(1))
    for rule in (counts(), llg(NOISE), idlg(), rlg()):
        with pytest.raises(ValueError, match=r"looks at the model too: call restore\(update, model\)"):
            rule.restore(one)
    repeated = Client(model).update(Batch(random_batch(1).images.expand(2, -1, -1, -1), torch.tensor([1, 1])))
    with pytest.raises(ValueError, match=r"the set \[1\] for 2 samples, so labels are repeated or were missed"):
        rlg().restore(repeated, model)
    assert rlg_classes(repeated, model).tolist() == [1]


def test_counts_needs_the_bias():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5, bias=False)).double()
    update: Update = Client(model).update(random_batch(2))
    with pytest.raises(ValueError, match=r"bias gradient of the last layer is needed.*llg\(\) does without"):
        counts().restore(update, model)


def test_rlg_turns_to_another_solver_and_says_when_none_solves_its_program(monkeypatch):
    model, batch = small_lenet(), random_batch(2)
    batch = Batch(batch.images, torch.tensor([1, 3]))
    update, asked, original = Client(model).update(batch), [], label_rules.linprog

    def failing(*arguments, method, solved_by=("highs-ipm",), **options):
        asked.append(method)
        found = original(*arguments, method=method, **options)
        if method not in solved_by:
            found.x, found.message = None, "numerical trouble."
        return found

    monkeypatch.setattr(label_rules, "linprog", failing)
    assert rlg_classes(update, model).tolist() == [1, 3]
    assert asked == ["highs", "highs-ipm"]
    monkeypatch.setattr(label_rules, "linprog", partial(failing, solved_by=()))
    with pytest.raises(ValueError, match=r"could not solve its linear program.*numerical trouble\. Use counts"):
        rlg_classes(update, model)
