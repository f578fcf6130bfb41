"""What the named attacks reach with their default settings: the quality that the book promises."""

import dataclasses

import pytest
import torch
from victims import random_batch, small_lenet

from gilib import data, iteration, metrics, models
from gilib.federated import Client, LocalTraining, Update
from gilib.iteration.labels import joint
from gilib.iteration.matching import squared_l2

PHOTOS = data.load("photos")


def victims(dataset: data.Dataset, count: int) -> list[data.Batch]:
    return [dataset.batch(index) for index in range(count)]


def updates(model: torch.nn.Module, batches: list[data.Batch], **settings) -> list[Update]:
    return [Client(model, **settings).update(batch) for batch in batches]


def psnr(found: list[iteration.Reconstruction], batches: list[data.Batch]) -> torch.Tensor:
    return torch.cat([metrics.psnr(one.images, batch.images) for one, batch in zip(found, batches, strict=True)])


def right(found: list[iteration.Reconstruction], batches: list[data.Batch]) -> list[bool]:
    return [torch.equal(one.labels, batch.labels) for one, batch in zip(found, batches, strict=True)]


def test_dlg_recovers_photographs():
    model, batches = models.lenet(), victims(PHOTOS, 16)
    found = iteration.dlg().reconstruct_many(model, updates(model, batches))
    values = psnr(found, batches)
    assert values.median() >= 35, values
    assert (values > 25).sum() >= 13, values
    assert all(right(found, batches))


@pytest.mark.parametrize(
    "name, count, model",
    [("digits", 100, models.lenet(channels=1, size=8)), ("photos", 16, models.lenet())],
    ids=["digits", "photos"],
)
def test_idlg_finds_every_label_at_initialization(name, count, model):
    batches = victims(data.load(name), count)
    attack = iteration.idlg(iterations=1)
    assert all(right(attack.reconstruct_many(model, updates(model, batches)), batches))


def test_idlg_recovers_digits():
    model, batches = models.lenet(channels=1, size=8), victims(data.load("digits"), 8)
    found = iteration.idlg(iterations=200).reconstruct_many(model, updates(model, batches))
    assert psnr(found, batches).median() >= 30


def test_inverting_gradients_recovers_photographs_and_beats_squared_l2():
    model, batches = models.convnet(), victims(PHOTOS, 8)
    attack = iteration.inverting_gradients()
    assert attack.iterations == 1000
    shared = updates(model, batches, share_labels=True)
    with_cosine = psnr(attack.reconstruct_many(model, shared), batches)
    with_squares = psnr(dataclasses.replace(attack, matching=squared_l2()).reconstruct_many(model, shared), batches)
    assert with_cosine.mean() >= 26, with_cosine
    assert with_cosine.mean() > with_squares.mean(), (with_cosine, with_squares)


@pytest.mark.parametrize(
    "make, settings",
    [(iteration.dlg, {}), (iteration.idlg, {}), (iteration.inverting_gradients, {"labels": joint()})],
)
def test_every_recipe_takes_its_length_and_its_restarts(make, settings):
    attack = make(iterations=3, restarts=2, **settings)
    assert (attack.iterations, attack.restarts) == (3, 2)
    update = Client(small_lenet()).update(random_batch(1))
    found = attack.reconstruct(small_lenet(), update)
    assert found.losses.shape == (3,)
    assert found.attack is attack


def test_recipes_state_the_settings_of_their_papers():
    assert iteration.dlg() == dataclasses.replace(iteration.idlg(), labels=joint())
    ours = iteration.inverting_gradients(tv=0.02)
    assert ours.priors[0].weight == 0.02
    assert (ours.optimizer.learning_rate, ours.optimizer.signed, ours.bounds) == (0.1, True, (0.0, 1.0))


def test_inverting_gradients_needs_labels_unless_told_otherwise():
    update = Client(small_lenet()).update(random_batch(1))
    with pytest.raises(ValueError, match="needs the victim's labels"):
        iteration.inverting_gradients().reconstruct(small_lenet(), update)


def test_federated_averaging_leaks_too():
    """Three local steps on one photograph, which the attack repeats on its candidate."""
    model, batches = models.lenet(), victims(PHOTOS, 4)
    shared = updates(model, batches, local=LocalTraining(steps=3, learning_rate=0.01))
    found = iteration.idlg(iterations=400).reconstruct_many(model, shared)
    assert all(right(found, batches))
    assert psnr(found, batches).median() > 20
