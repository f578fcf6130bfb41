"""Labels: who may read them, and iDLG's rule."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from victims import random_batch, small_attack, small_lenet

from gilib import models
from gilib.federated import Client
from gilib.iteration.labels import idlg, idlg_scores, joint, known


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
