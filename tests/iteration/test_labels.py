"""Labels: who may read them, and iDLG's rule."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from victims import random_batch, small_attack, small_lenet

from gilib import data, models
from gilib.data import Batch
from gilib.federated import Client, LocalTraining, Update, train
from gilib.iteration.labels import (
    column_minimum,
    counts,
    idlg,
    idlg_scores,
    joint,
    known,
    labels_of,
    llg,
    rlg,
    rlg_classes,
)

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
    scores = idlg_scores(update.gradients)
    assert torch.equal(idlg().restore(update), batch.labels)
    if features.sum() > 1e-6:  # ReLU features can all be zero
        assert (scores < 0).sum() == 1
    probabilities = model(batch.images).softmax(1)[0]
    expected = (probabilities - nn.functional.one_hot(batch.labels, classes)[0]) * features.sum()
    torch.testing.assert_close(scores, expected.detach(), rtol=1e-9, atol=1e-12)


def test_idlg_is_wrong_where_features_sum_to_something_negative():
    """The stated limit of the rule: a tanh network can turn every sign around."""
    wrong = 0
    for seed in range(20):
        model = models.lenet(5, size=8, activation="tanh", seed=seed).double()
        batch = random_batch(1, seed=seed)
        wrong += int(idlg().restore(Client(model).update(batch)) != batch.labels)
    assert wrong > 0


def test_idlg_refuses_batches():
    with pytest.raises(ValueError, match="label of a single sample; this update comes from 2"):
        idlg().restore(Client(small_lenet()).update(random_batch(2)))


def test_idlg_needs_a_fully_connected_layer():
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    update = Client(model).update(random_batch(1))
    with pytest.raises(ValueError, match="needs a fully connected last layer"):
        idlg().restore(update)


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


def test_rlg_works_for_features_of_either_sign_where_the_others_fail():
    model = models.lenet(channels=1, size=8, activation="tanh").double()
    assert accuracy(rlg(), model, 4, distinct=True) == 1
    assert accuracy(column_minimum(), model, 4, distinct=True) < 0.95
    assert accuracy(llg(), model, 4, distinct=True) < 0.95


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
        column_minimum().restore(update)
    for rule in (counts(), llg(NOISE)):
        with pytest.raises(ValueError, match=r"looks at the model too: call restore\(update, model\)"):
            rule.restore(update)
    repeated = Client(model).update(Batch(random_batch(1).images.expand(2, -1, -1, -1), torch.tensor([1, 1])))
    with pytest.raises(ValueError, match=r"the set \[1\] for 2 samples, so labels are repeated or were missed"):
        rlg().restore(repeated)
    assert rlg_classes(repeated).tolist() == [1]


def test_counts_needs_the_bias():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5, bias=False)).double()
    update: Update = Client(model).update(random_batch(2))
    with pytest.raises(ValueError, match=r"'1.bias' is not shared. llg\(\) does without"):
        counts().restore(update, model)
