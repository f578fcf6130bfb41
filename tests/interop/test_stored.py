"""The stored rounds of Flower: they load without it, fit their networks, and are what clients computed."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from bench.flower import stored as files
from bench.flower import task
from bench.flower.federations import RANGE, WEIGHT, costs, federations
from bench.flower.stored import about, stored
from gilib import metrics
from gilib.federated import Client, LocalTraining
from gilib.recursion import phong

STEP = LocalTraining(learning_rate=0.1)


def test_everything_is_stored_with_its_settings():
    for part, settings in (("federations", federations()), ("costs", costs())):
        found = {name: one["settings"] for name, one in about()[part].items()}
        assert found == {name: asdict(one) for name, one in settings.items()}, "run python -m bench.flower again"
    for name, one in federations().items():
        found = stored(name)
        assert len(found.losses) == one.watched == len(found.kept) + len(found.masked)
        assert [kept.node for kept in found.kept] == list(range(1, len(found.kept) + 1))


@pytest.mark.parametrize("name", ["one digit", "one digit, trained", "client clips"])
def test_a_stored_round_gives_its_images_back(name):
    found = stored(name)
    for kept in found.kept:
        model, update = kept.update(found.model, image_shape=(1, 8, 8), local=STEP)
        truth = task.partition(kept.node - 1, 1).images
        assert float(metrics.psnr(phong(model, update).images.clamp(0, 1), truth)) > 60


@pytest.mark.parametrize("name", ["eight digits", "batch norm", "one photograph"])
def test_an_update_of_one_step_is_the_gradient_of_the_client(name):
    found = stored(name)
    settings = found.settings
    mode = "train" if settings.network == "batch norm" else "eval"
    for kept in found.kept:
        batch = task.partition(kept.node - 1, settings.images, settings.network)
        model, update = kept.update(found.model, image_shape=tuple(batch.images.shape[1:]), local=STEP, mode=mode)
        expected = Client(model, mode=mode).update(batch).gradients
        for key, value in expected.items():
            gap = (update.gradients[key] - value).norm() / value.norm()
            assert float(gap) < 1e-3, key


def test_momentum_and_epochs_are_those_of_the_library():
    """Steps on one image have one order: what a client of three epochs sent is what the library simulates."""
    found = stored("one photograph, three epochs")
    local = LocalTraining(learning_rate=0.1, epochs=3, batch_size=32, momentum=0.9)
    for kept in found.kept:
        batch = task.partition(kept.node - 1, 1, "quickstart")
        model, update = kept.update(found.model, image_shape=(3, 32, 32), local=local)
        expected = Client(model, local=local).update(batch).gradients
        for key, value in expected.items():
            assert float((update.gradients[key] - value).norm() / value.norm()) < 1e-3, key


def test_the_secure_sum_is_the_mean_of_the_plain_round():
    plain, secure = stored("one digit"), stored("secure sum")
    weights = [np.concatenate([one.reshape(-1) for one in kept.after]) for kept in plain.kept]
    mean = np.concatenate([one.reshape(-1) for one in secure.mean])
    rounding = WEIGHT * 2 * RANGE / 2**22  # Flower rounds weights times their share of the largest number of examples
    assert np.abs(np.mean(weights, axis=0) - mean).max() < rounding


def test_masked_weights_look_like_noise():
    for masked in stored("secure sum").masked:
        counts = np.histogram(masked, bins=8, range=(0, 2**32))[0]
        expected = len(masked) / 8
        assert ((counts - expected) ** 2 / expected).sum() < 30  # chi-squared, 7 degrees of freedom: once in 10,000


def test_bits_come_back():
    before, after = torch.randn(2, 100, generator=torch.Generator().manual_seed(0)).numpy()
    assert np.array_equal(files.restored(before, files.changed_bits(before, after)), after)


def test_another_length_is_refused():
    with pytest.raises(ValueError, match="expected 610 numbers, as the network has; got 609"):
        files.arrays(task.network("dense"), np.zeros(609, np.float32))
