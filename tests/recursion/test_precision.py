"""Recursion on other precisions and devices: float64 on the processor inside, tolerances by what came in."""

import dataclasses

import pytest
import torch
from recursion.own_networks import SHAPE, Dense, Inverted, as_difference, psnr
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from victims import random_batch

from gilib import data, metrics, models
from gilib.data import Batch
from gilib.federated import Client
from gilib.jacobian import jacobian
from gilib.recursion import (
    dense_report,
    jacobian_rank,
    layer_equations,
    layer_inputs,
    lone_inputs,
    phong,
    rank_analysis,
    rgap,
    spear,
)
from gilib.recursion.network import layers_of


def test_a_default_device_without_numbers_changes_nothing():
    deep, dense, narrow, batch = Inverted(), Dense(), Dense(width=4), random_batch(1)
    several = random_batch(3)
    shared, one, three = (Client(m).update(b) for m, b in ((deep, batch), (dense, batch), (dense, several)))

    def everything():
        return (
            rgap(deep, shared).images,
            phong(dense, one).images,
            spear(dense, three).images,
            torch.tensor(rank_analysis(deep, SHAPE, numerical=True).bound, device="cpu"),
            torch.tensor(jacobian_rank(narrow, SHAPE).rank, device="cpu"),
        )

    expected = everything()
    with torch.device("meta"):
        found = everything()
    for value, right in zip(found, expected, strict=True):
        assert torch.equal(value, right)


def test_a_model_on_another_device_is_brought_to_the_processor():
    with FakeTensorMode(allow_non_fake_inputs=True):
        on = {"device": "cuda", "dtype": torch.float32}
        parts = nn.Conv2d(3, 8, 3, **on), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(1568, 10, **on)
        layers = layers_of(nn.Sequential(*parts), (3, 16, 16))
        for layer in layers:
            assert (layer.weight.device.type, layer.weight.dtype) == ("cpu", torch.float64)
        assert [layer.outputs for layer in layers] == [(8, 14, 14), (10, 1, 1)]


def test_numbers_are_refused_where_there_are_none():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5, device="meta"))
    with pytest.raises(ValueError, match=r"'1\.weight' is on the meta device"):
        rank_analysis(model, SHAPE)


def test_what_holds_no_numbers_is_refused():
    model, deep = Dense(), Inverted()
    update = Client(model).update(random_batch(1))
    arrays = {name: value.numpy() for name, value in update.gradients.items()}
    empty = {name: value.to("meta") for name, value in update.gradients.items()}
    for gradients, words in ((arrays, "ndarray"), (empty, r"a tensor without numbers \(on the meta device\)")):
        broken = dataclasses.replace(update, gradients=gradients)
        for attack in (phong, spear, lambda _, update: layer_inputs(update)):
            with pytest.raises(ValueError, match=f"'head.weight' as a tensor of numbers, got {words}"):
                attack(model, broken)
    with pytest.raises(ValueError, match="expected an Update, got a dict"):
        rgap(deep, update.gradients)


def test_single_precision_gives_double_answers_at_the_door():
    model, batch = Inverted().float(), random_batch(1)
    report = rank_analysis(model, SHAPE, numerical=True)
    assert [one.rank for one in report.layers] == [192, 16 * 36]
    assert jacobian_rank(Dense(width=8).float(), SHAPE).full
    weight, forward = layer_equations(nn.Conv2d(3, 4, 3), torch.Size((1, *SHAPE)), torch.rand(1, 4, 6, 6))
    assert weight.dtype == forward.dtype == torch.float64
    found = rgap(model, Client(model).update(batch))
    assert found.images.dtype == torch.float64
    assert found.exact
    assert psnr(found.images, batch) > 90
    by_weights = rgap(model, as_difference(model, Client(model).update(batch)))
    assert 50 < psnr(by_weights.images, batch) < psnr(found.images, batch)


@pytest.mark.parametrize("difference", [False, True])
def test_all_lone_inputs_are_found_in_single_precision(difference):
    photos, model = data.load("photos", size=16), models.mlp(size=16, hidden=(512,))
    batch = photos.batch(range(4))
    update = Client(model).update(batch)
    update = as_difference(model, update) if difference else update
    rows = lone_inputs(update.gradients["linear1.weight"], update.gradients["linear1.bias"])
    gaps = torch.cdist(rows.double(), batch.images.double().flatten(1), p=torch.inf)
    assert rows.dtype == torch.float32
    assert len(rows) == 4
    assert gaps.amin(dim=0).max() < 1e-3


@pytest.mark.parametrize("difference", [False, True])
def test_spear_is_exact_in_single_precision_and_sees_duplicates(difference):
    photos, model = data.load("photos", size=8), models.mlp(size=8, hidden=(200,))
    batch = photos.batch(range(4))
    twice = Batch(batch.images[[0, 1, 1, 2]], batch.labels[[0, 1, 1, 2]])
    shared = [Client(model).update(one) for one in (batch, twice)]
    first, second = (as_difference(model, one) if difference else one for one in shared)
    found, double = spear(model, first), spear(model, second)
    assert found.exact
    assert psnr(found.images, batch) > 110
    order = metrics.match(found.images.clamp(0, 1), batch.images)
    assert found.labels[order].tolist() == batch.labels.tolist()
    assert (len(double.images), double.exact) == (3, False)


@pytest.mark.parametrize(("dtype", "least"), [(torch.float16, 70), (torch.bfloat16, 50)])
def test_half_precision_is_divided_or_refused(dtype, least):
    photos, model = data.load("photos", size=16), models.mlp(size=16, hidden=(64,)).to(dtype)
    update = Client(model).update(photos.batch(0))
    found = phong(model, update)
    assert psnr(found.images, photos.batch(0)) > least
    assert found.exact
    assert found.labels.tolist() == [0]
    assert not phong(model, Client(model).update(photos.batch(range(3)))).exact
    assert dense_report(update.gradients["linear1.weight"], update.gradients["linear1.bias"]).rank > 0
    with pytest.raises(ValueError, match=r"'linear1\.weight' is torch\.\w+, which has two or three digits"):
        spear(model, update)
    smooth = models.mlp(size=16, hidden=(64,), activation="tanh").to(dtype)
    with pytest.raises(ValueError, match="which has two or three digits"):
        rgap(smooth, Client(smooth).update(photos.batch(0)))


def test_the_jacobian_keeps_the_dtype_of_the_model():
    model = Dense(width=4).float()
    shared, derivative = jacobian(Client(model), random_batch(1))
    assert shared.dtype == derivative.dtype == torch.float32
    assert derivative.shape == (len(shared), 192)
