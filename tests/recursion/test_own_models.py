"""Recursion on models that are not the book's own: classes, branches, subclasses, changes of shape."""

import dataclasses

import pytest
import torch
from recursion.own_networks import SHAPE, Dense, Inverted, Quickstart, psnr
from torch import nn
from torch.nn import functional
from victims import nothing_changes, random_batch

from gilib import metrics, models
from gilib.federated import Client
from gilib.recursion import (
    phong,
    rank_analysis,
    rgap,
    spear,
)
from gilib.recursion.network import layers_of


def test_a_class_and_its_layers_in_a_row_have_the_same_ranks():
    model = Quickstart()
    own = rank_analysis(model, (3, 32, 32))
    row = rank_analysis(model.as_sequential(), (3, 32, 32))
    names = ["conv1", "pool", "conv2", "pool", "fc1", "fc2", "fc3"]
    assert [one.name for one in own.layers] == names
    same = [dataclasses.replace(one, name="") for one in row.layers]
    assert [dataclasses.replace(one, name="") for one in own.layers] == same
    assert (own.predicts_leak, own.bound, own.parameters) == (row.predicts_leak, row.bound, row.parameters)
    assert own.bound == 1632


def test_rgap_inverts_a_class_whose_graph_is_a_chain(capfd):
    model, batch = Inverted(), random_batch(1)
    update = Client(model).update(batch)
    with nothing_changes(model, capfd):
        found = rgap(model, update)
    assert psnr(found.images, batch) > 200
    assert found.exact
    assert found.labels.tolist() == batch.labels.tolist()
    assert [layer.name for layer in found.layers] == ["logit", "fc", "conv"]
    with pytest.raises(ValueError, match=r"'relu' \(ReLU\) cannot be inverted"):
        rgap(Quickstart(), Client(Quickstart()).update(random_batch(1, size=32)))


@pytest.mark.parametrize("branch", [False, True])
def test_spear_and_phong_take_the_layer_that_runs_first(branch):
    model, batch = Dense(branch=branch), random_batch(3)
    found = spear(model, Client(model).update(batch))
    assert found.exact
    assert found.layers[0].name == "body"
    assert psnr(found.images, batch) > 150
    order = metrics.match(found.images, batch.images)
    assert found.labels[order].tolist() == batch.labels.tolist()
    single = random_batch(1, seed=2)
    one = phong(model, Client(model).update(single))
    assert one.labels.tolist() == single.labels.tolist()
    assert psnr(one.images, single) > 150


def test_spear_names_what_comes_first_or_forks():
    class Forked(Dense):
        def forward(self, x):
            x = self.body(x.flatten(1))
            return self.head(functional.relu(x) + torch.tanh(x))

    model = Forked()
    with pytest.raises(ValueError, match="expected ReLU after layer 'body', got 'nothing'"):
        spear(model, Client(model).update(random_batch(2)))
    with pytest.raises(ValueError, match=r"got 'conv1' \(Conv2d\)"):
        spear(Quickstart(), Client(Quickstart()).update(random_batch(2, size=32)))


def test_layers_that_do_not_fit_are_explained():
    broken = nn.Sequential(nn.Flatten(), nn.Linear(100, 5))
    with pytest.raises(ValueError, match=r"'1' does not take features of shape \(192, 1, 1\): it expects 100"):
        layers_of(broken, SHAPE)
    with pytest.raises(ValueError, match=r"'0' does not take features of shape \(3, 8, 8\).*kernel, \(9, 9\)"):
        layers_of(nn.Sequential(nn.Conv2d(3, 4, 9)), SHAPE)


class Branching(Dense):
    """Control flow that depends on the data, behind an activation of the test's choice."""

    def __init__(self, activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x):
        x = self.activation(self.body(x.flatten(1)))
        return self.head(x if float(x.detach().sum()) > 0 else -x)


def test_what_cannot_be_traced_can_still_be_run():
    model, batch = Branching(torch.relu), random_batch(3)
    found = spear(model, Client(model).update(batch))
    assert found.exact
    assert psnr(found.images, batch) > 150
    for activation in (torch.tanh, functional.leaky_relu):
        other = Branching(activation)
        with pytest.raises(ValueError, match="expected ReLU after layer 'body'"):
            spear(other, Client(other).update(batch))
    with pytest.raises(ValueError, match=r"values of its input as numbers of Python"):
        rgap(model, Client(model).update(random_batch(1)))
    assert "numbers of Python" in rank_analysis(model, SHAPE).layers[0].reason


class Centred(nn.Linear):
    """A fully connected layer by its class, whose weights are centred before they are used."""

    def forward(self, x):
        return functional.linear(x, self.weight - self.weight.mean(dim=1, keepdim=True), self.bias)


class CentredConv(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(dim=(1, 2, 3), keepdim=True), bias)


class Renamed(nn.Linear):
    """A subclass that computes the same."""


@pytest.mark.parametrize(
    "layer", [nn.utils.parametrizations.weight_norm(nn.Linear(192, 60)), Centred(192, 60)], ids=["normed", "centred"]
)
def test_weights_used_in_a_way_of_their_own_are_not_divided(layer):
    model = nn.Sequential(nn.Flatten(), layer, nn.ReLU(), nn.Linear(60, 5)).double()
    update = Client(model).update(random_batch(1))
    for attack in (phong, spear):
        with pytest.raises(ValueError, match=r"layer '1' \(\w+\) computes with its weight in a way of its own"):
            attack(model, update)
    report = rank_analysis(model, SHAPE, numerical=True)
    assert (report.layers[0].verdict, report.start, report.predicts_leak) == ("cannot tell", 1, None)
    assert "in a way of its own" in str(report)


def test_subclasses_are_known_by_what_they_compute():
    last = nn.Sequential(nn.Flatten(), nn.Linear(192, 60), nn.ReLU(), Centred(60, 5)).double()
    found = spear(last, Client(last).update(random_batch(3)))
    assert found.exact
    assert found.labels is None  # the last gradient is no product with the features
    batch = random_batch(1)
    same = nn.Sequential(nn.Flatten(), Renamed(192, 60), nn.LeakyReLU(0.2), Renamed(60, 5)).double()
    update = Client(same).update(batch)
    assert psnr(phong(same, update).images, batch) > 150
    assert psnr(rgap(same, update).images, batch) > 150
    assert rank_analysis(same, SHAPE).predicts_leak
    convolutional = nn.Sequential(CentredConv(3, 8, 3, 1, 1), nn.Tanh(), nn.Flatten(), nn.Linear(512, 5)).double()
    with pytest.raises(ValueError, match=r"layer '0' \(CentredConv\) computes with its weight in a way of its own"):
        rgap(convolutional, Client(convolutional).update(batch))


def test_one_weight_in_two_layers_is_a_mixture():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 192), nn.Tanh(), nn.Linear(192, 192), nn.Tanh())
    model.append(nn.Linear(192, 5)).double()
    model[3].weight = model[1].weight
    update = Client(model).update(random_batch(1))
    assert not phong(model, update).exact
    with pytest.raises(ValueError, match=r"'3\.weight' is shared with another layer"):
        rgap(model, update)
    report = rank_analysis(model, SHAPE)
    assert [one.reason for one in report.layers[:2]] == ["the network uses its weights more than once"] * 2
    assert (report.start, report.predicts_leak) == (2, None)


def test_changes_of_shape_are_followed():
    parts = nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.2), nn.Unflatten(1, (2, 4)), nn.Flatten(), nn.Linear(512, 48)
    model = nn.Sequential(*parts, nn.Tanh(), nn.Unflatten(1, (3, 4, -1)), nn.Conv2d(3, 4, 2), nn.Flatten())
    model = models.draw_weights(model, seed=0).double()
    layers = layers_of(model, SHAPE)
    assert [one.inputs for one in layers] == [(3, 8, 8), (512, 1, 1), (3, 4, 4)]
    assert [one.outputs for one in layers] == [(8, 8, 8), (48, 1, 1), (4, 3, 3)]
    short, batch = models.draw_weights(nn.Sequential(*parts), seed=0).double(), random_batch(1, classes=48)
    assert psnr(rgap(short, Client(short).update(batch)).images, batch) > 150
    with pytest.raises(ValueError, match=r"'1' \(Unflatten\(dim=1.*does not take features of shape \(8, 8, 8\)"):
        layers_of(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Unflatten(1, (3, 3))), SHAPE)
    with pytest.raises(ValueError, match=r"'1' is a convolution and gets features of shape \(192,\)"):
        layers_of(nn.Sequential(nn.Flatten(), nn.Conv2d(3, 8, 3)), SHAPE)


def test_a_first_layer_must_see_the_whole_image():
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).double()
    with pytest.raises(ValueError, match="layer '0' sees 8 numbers and not the 192 pixels"):
        spear(model, Client(model).update(random_batch(2)))


def test_spear_sees_through_a_fork_before_the_layer_and_not_through_changed_pixels():
    class Skipping(Dense):
        def forward(self, x):
            x = x.flatten(1)
            return self.head(functional.relu(self.body(x))) + x[:, :5]

    class Normalizing(Dense):
        def forward(self, x):
            return super().forward((x - 0.5) / 0.5)

    batch = random_batch(3)
    found = spear(Skipping(), Client(Skipping()).update(batch))
    assert found.exact
    assert psnr(found.images, batch) > 150
    assert found.labels is None  # the logits come from more than the head
    for attack, count in ((spear, 3), (phong, 1)):
        with pytest.raises(ValueError, match="layer 'body' does not see the pixels as they are"):
            attack(Normalizing(), Client(Normalizing()).update(random_batch(count)))
