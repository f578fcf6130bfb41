"""GradInversion: labels and images of batches of eight on a batch-norm ResNet, with each prior and without."""

import dataclasses
from functools import cache

import pytest
import torch
from torch import Tensor
from victims import nothing_changes, random_batch, small_convnet

from gilib import data, metrics, models
from gilib.federated import Client, Update, train
from gilib.iteration import IterationAttack, gradinversion
from gilib.iteration.labels import column_minimum, counts, known

DIGITS = data.load("digits")


@cache
def resnet() -> torch.nn.Module:
    """Sixty steps of a warm-up: hardly trained, but its running statistics are those of real batches."""
    model = models.resnet(channels=1, size=8, width=8, blocks=1, activation="softplus").double()
    return train(model, DIGITS.batch(range(900)), stages=[60], learning_rate=1e-4)[60]


def different_digits(count: int, *, seed: int = 0) -> list[data.Batch]:
    """Batches of eight digits with eight labels, none of which the model was trained on."""
    generator, batches = torch.Generator().manual_seed(seed), []
    for _ in range(count):
        mixed = 900 + torch.randperm(len(DIGITS) - 900, generator=generator)
        first = [int(mixed[DIGITS.labels[mixed] == label][0]) for label in range(10)]
        chosen = torch.randperm(10, generator=generator)[:8].sort().values
        batches.append(DIGITS.batch([first[label] for label in chosen]))
    return batches


def updates(batches: list[data.Batch], **settings) -> list[Update]:
    client = Client(resnet(), mode="train", **{"share_buffers": True, **settings})
    return [client.update(batch) for batch in batches]


def plain(**changes) -> IterationAttack:
    """The recipe without its priors, for as long as a test may run."""
    settings = {"tv": 0, "l2": 0, "batch_norm": 0, "consistency": 0, "iterations": 45, "restarts": 1}
    return gradinversion(**(settings | changes))


def psnr(attack: IterationAttack, batches: list[data.Batch]) -> Tensor:
    """Mean PSNR of each victim's batch."""
    values = []
    for found, batch in zip(attack.reconstruct_many(resnet(), updates(batches)), batches, strict=True):
        order = metrics.match(found.images, batch.images)
        values.append(metrics.psnr(found.images[order], batch.images).mean())
    return torch.stack(values)


def test_labels_of_a_hundred_batches_are_restored():
    batches = different_digits(100)
    right = [
        (column_minimum().restore(update, resnet()) == batch.labels).double().mean()
        for update, batch in zip(updates(batches), batches, strict=True)
    ]
    assert torch.stack(right).mean() >= 0.95


def test_statistics_improve_every_batch_and_those_of_the_batch_most():
    batches = different_digits(8, seed=1)
    nothing = psnr(plain(), batches)
    running = psnr(plain(batch_norm=0.1), batches) - nothing
    shared = psnr(plain(batch_norm=0.3, shared=True), batches) - nothing
    assert running.median() > 0.5, running
    assert shared.min() > 1, shared
    assert shared.median() > 3, shared


def test_group_consistency_improves_on_the_best_of_as_many_restarts():
    batches = different_digits(8, seed=1)
    nothing, together = (psnr(plain(consistency=weight, restarts=3), batches) for weight in (0, 10))
    assert (together > nothing).sum() >= 7, (nothing, together)
    assert (together - nothing).median() > 0.7, (nothing, together)


def test_a_weight_of_zero_leaves_a_prior_out():
    assert plain().priors == ()
    assert plain().group is None
    assert len(gradinversion().priors) == 3
    assert len(gradinversion(tv=0).priors) == 2
    assert gradinversion().priors[2].needs_shared_statistics is False
    assert gradinversion(shared=True).priors[2].needs_shared_statistics is True
    assert (gradinversion().labels, gradinversion(labels=counts()).labels) == (column_minimum(), counts())


def test_it_says_what_the_threat_model_lacks():
    batches = different_digits(1)
    short = {"iterations": 2, "restarts": 2}
    with pytest.raises(ValueError, match="share_buffers=True"):
        gradinversion(shared=True, **short).reconstruct(resnet(), updates(batches, share_buffers=False)[0])
    with pytest.raises(ValueError, match="needs the victim's labels"):
        gradinversion(labels=known(), **short).reconstruct(resnet(), updates(batches)[0])
    with pytest.raises(ValueError, match="restarts >= 2"):
        gradinversion(restarts=1)
    bare = small_convnet()
    with pytest.raises(ValueError, match="needs a model with batch normalization"):
        gradinversion(**short).reconstruct(bare, Client(bare).update(random_batch(2)))
    many = Client(small_convnet(norm="batch")).update(random_batch(6))
    with pytest.raises(ValueError, match="each class at most once"):
        gradinversion(**short).reconstruct(small_convnet(norm="batch"), many)


def test_it_reads_no_labels_and_changes_nothing(capfd):
    [batch] = different_digits(1)
    [update] = updates([batch], share_labels=True)
    wrong = dataclasses.replace(update, labels=update.labels.roll(1))
    attack = gradinversion(iterations=3, restarts=2)
    with nothing_changes(resnet(), capfd):
        found = [attack.reconstruct(resnet(), each) for each in (update, wrong)]
    assert torch.equal(found[0].images, found[1].images)
    assert torch.equal(found[0].labels, batch.labels)
