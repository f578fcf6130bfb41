"""Recursion on updates of other clients: frozen parameters, local training, losses, weights."""

import dataclasses

import pytest
import torch
from recursion.own_networks import Dense, Inverted, frozen, psnr
from torch import nn
from victims import random_batch

from gilib import metrics, models
from gilib.data import Batch
from gilib.federated import Client, LocalTraining, cross_entropy, logistic
from gilib.recursion import (
    layer_inputs,
    phong,
    rgap,
    spear,
)
from gilib.recursion.head import logit_roots


def half(logits, targets):
    return cross_entropy(logits, targets) / 2


def summed(logits, targets):
    return cross_entropy(logits, targets) * len(logits)


def squared(logits, targets):
    return (logits - targets).square().mean()


def shifted(model: nn.Module) -> nn.Module:
    """Biases that are large enough to matter."""
    generator = torch.Generator().manual_seed(5)
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            value.data = 0.5 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return model


@pytest.mark.parametrize(("classes", "settings"), [(1, {"loss": logistic}), (2, {}), (3, {}), (5, {})])
@pytest.mark.parametrize("names", [("conv.bias",), ("fc.bias",), ("conv.bias", "fc.bias")])
def test_frozen_biases_are_known_to_the_server(classes, settings, names):
    model = Inverted(classes)
    if classes == 1:  # one logit has no log-softmax
        model = nn.Sequential()
        model.add_module("conv", nn.Conv2d(3, 16, 3))
        model.add_module("activation", nn.LeakyReLU(0.2))
        model.add_module("flatten", nn.Flatten())
        model.add_module("fc", nn.Linear(16 * 36, 1))
        model = models.draw_weights(model, seed=3).double()
    model = frozen(shifted(model), *names)
    for seed in range(3):
        batch = random_batch(1, classes=max(2, classes), seed=seed)
        found = rgap(model, Client(model, **settings).update(batch))
        assert psnr(found.images, batch) > 120
        assert found.labels.tolist() == batch.labels.tolist()


def test_what_is_frozen_and_needed_is_named():
    batch = random_batch(1)
    for name in ("conv.weight", "fc.weight"):
        model = frozen(Inverted(), name)
        with pytest.raises(ValueError, match=f"parameter '{name}' is frozen"):
            rgap(model, Client(model).update(batch))
    for name in ("body.weight", "body.bias"):
        model = frozen(Dense(), name)
        update = Client(model).update(batch)
        for attack in (phong, spear):
            with pytest.raises(ValueError, match=f"parameter '{name}' is frozen"):
                attack(model, update)
    model = frozen(Dense(), "head.bias")
    update = Client(model).update(batch)
    assert phong(model, update).labels is None
    assert psnr(phong(model, update).images, batch) > 150
    model = frozen(Dense(), "head.weight")
    found = spear(model, Client(model).update(random_batch(3)))
    assert found.exact
    assert found.labels is None


@pytest.mark.parametrize("shift", [-2.0, -0.3, 0.4, 3.0])
def test_logit_roots_with_a_known_bias(shift):
    for u in (-4.0, -0.5, 0.2, 1.0, 2.5, 6.0):
        product = float(-(u - shift) * torch.sigmoid(torch.tensor(-u, dtype=torch.float64)))
        roots = logit_roots(product, shift)
        assert min(abs(root - u) for root in roots) < 1e-6 * max(1, abs(u))
    lowest = logit_roots(-100.0, shift)[0]
    value = -(lowest - shift) / (1 + torch.e**lowest)
    assert all(-(lowest + step - shift) / (1 + torch.e ** (lowest + step)) > value for step in (-0.01, 0.01))


LINEAR = [
    LocalTraining(steps=4, learning_rate=0.1, momentum=0.9),
    LocalTraining(epochs=3, learning_rate=0.1, batch_size=1),
    LocalTraining(steps=3, learning_rate=0.1, momentum=0.5, nesterov=True),
    LocalTraining(steps=2, clip=1e-3),
]

OTHER = [
    LocalTraining(steps=2, weight_decay=0.1),
    LocalTraining(optimizer="adam"),
    LocalTraining(epochs=2, optimizer="adamw", weight_decay=0.01),
]


@pytest.mark.parametrize("local", LINEAR)
def test_sums_of_gradients_of_one_image_are_divided(local):
    model, batch = Dense(), random_batch(1)
    update = Client(model, local=local).update(batch)
    found = phong(model, update)
    assert psnr(found.images, batch) > 150
    assert found.exact
    assert found.labels.tolist() == batch.labels.tolist()
    torch.testing.assert_close(layer_inputs(update)["body"], batch.images.flatten())


@pytest.mark.parametrize("local", OTHER)
def test_weight_decay_and_adam_are_refused(local):
    model, batch = Dense(), random_batch(1)
    update = Client(model, local=local).update(batch)
    for attack in (phong, spear, lambda _, update: layer_inputs(update)):
        with pytest.raises(ValueError, match="by SGD without weight decay; got LocalTraining"):
            attack(model, update)
    deep = Inverted()
    with pytest.raises(ValueError, match="one image after one local step"):
        rgap(deep, Client(deep, local=local).update(batch))


def test_one_epoch_over_one_image_is_one_step():
    model, batch = Inverted(), random_batch(1)
    for local in (LocalTraining(epochs=1), LocalTraining(epochs=1, batch_size=8, momentum=0.9), LINEAR[-1]):
        if local.count(1) == 1:
            assert psnr(rgap(model, Client(model, local=local).update(batch)).images, batch) > 150
        else:
            with pytest.raises(ValueError, match="steps=2"):
                rgap(model, Client(model, local=local).update(batch))
    clipped = Client(model, local=LocalTraining(clip=1e-3)).update(batch)
    assert psnr(rgap(model, clipped).images, batch) > 150  # one factor for all gradients
    bare = Inverted(bias=False)
    with pytest.raises(ValueError, match=r"'fc', has no bias.*clipping"):
        rgap(bare, Client(bare, local=LocalTraining(clip=1e-3)).update(batch))


@pytest.mark.parametrize("bias", [True, False])
def test_an_update_that_was_weighed_is_weighed_back(bias):
    deep, dense, batch, several = Inverted(bias=bias), Dense(), random_batch(1), random_batch(3)
    for model, one, attack in ((deep, batch, rgap), (dense, batch, phong), (dense, several, spear)):
        update = Client(model).update(one)
        more = {name: 0.05 * value for name, value in update.gradients.items()}
        found = attack(model, dataclasses.replace(update, gradients=more, weight=0.05))
        plain = attack(model, update)
        if attack is not phong or len(one) == 1:
            assert psnr(found.images, one) > 120
        assert found.labels.tolist() == plain.labels.tolist()


@pytest.mark.parametrize("loss", [cross_entropy, half, summed])
def test_multiples_of_the_cross_entropy_give_labels(loss):
    model, batch = Dense(), random_batch(3)
    found = spear(model, Client(model, loss=loss).update(batch))
    order = metrics.match(found.images, batch.images)
    assert found.labels[order].tolist() == batch.labels.tolist()
    single = random_batch(1, seed=4)
    assert phong(model, Client(model, loss=loss).update(single)).labels.tolist() == single.labels.tolist()
    for bias in (True, False):
        deep = Inverted(bias=bias)
        image = rgap(deep, Client(deep, loss=loss).update(single))
        assert psnr(image.images, single) > 120
        assert image.labels.tolist() == single.labels.tolist()


def test_other_losses_give_images_without_labels():
    model, batch, single = Dense(), random_batch(3), random_batch(1)
    found = spear(model, Client(model, loss=squared).update(batch))
    assert psnr(found.images, batch) > 150
    assert found.labels is None
    deep, bare = Inverted(), Inverted(bias=False)
    image = rgap(deep, Client(deep, loss=squared).update(single))
    assert psnr(image.images, single) > 150
    assert image.labels is None
    with pytest.raises(ValueError, match="cross-entropy or the logistic loss"):
        rgap(bare, Client(bare, loss=squared).update(single))


@pytest.mark.parametrize("label", [0, 1])
def test_one_logit_is_a_choice_between_two_labels(label):
    model = Dense(1)
    single = Batch(random_batch(1).images, torch.tensor([label]))
    assert phong(model, Client(model, loss=logistic).update(single)).labels.tolist() == [label]
    found = spear(model, Client(model, loss=logistic).update(single))
    assert psnr(found.images, single) > 150
    assert found.labels.tolist() == [label]
