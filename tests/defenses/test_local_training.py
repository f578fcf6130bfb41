"""Local iterations: what is agreed, what stays, who is stopped by it and who is not."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from victims import psnr, random_batch, small_attack, small_lenet

from gilib import data, models
from gilib.defenses.local_training import local_iterations
from gilib.federated import Client, LocalTraining, fit
from gilib.iteration import matching, optimizers


@settings(max_examples=10, deadline=None)
@given(steps=st.integers(1, 6), rate=st.floats(1e-3, 0.5), size=st.sampled_from([None, 1, 2]))
def test_a_defended_client_sends_what_a_client_with_these_local_steps_sends(steps, rate, size):
    model, batch = small_lenet(), random_batch(4)
    defended = Client(model, defenses=[local_iterations(steps, learning_rate=rate, batch_size=size)]).update(batch)
    agreed = LocalTraining(steps, rate, size)
    plain = Client(model, local=agreed).update(batch)
    assert defended.local == agreed
    assert all(torch.equal(defended.gradients[name], plain.gradients[name]) for name in plain.gradients)


def test_the_settings_are_public():
    update = Client(small_lenet(), defenses=[local_iterations(3, learning_rate=0.2)]).update(random_batch())
    assert update.public == {"local_iterations": {"steps": 3, "learning_rate": 0.2, "batch_size": None}}


def test_clipping_that_was_agreed_before_stays():
    client = Client(small_lenet(), local=LocalTraining(clip=0.5), defenses=[local_iterations(2)])
    assert client.update(random_batch()).local == LocalTraining(2, 0.1, None, clip=0.5)


@pytest.mark.parametrize(("steps", "options"), [(0, {}), (2, {"learning_rate": 0.0}), (2, {"batch_size": -1})])
def test_values_that_are_not_positive_are_refused_at_once(steps, options):
    with pytest.raises(ValueError, match="must be positive"):
        local_iterations(steps, **options)


def test_it_stops_the_attacker_who_ignores_it_and_not_the_one_who_simulates_it():
    digits = data.load("digits")
    model = models.lenet(channels=1, size=8, width=8, activation="tanh", bound=0.15).double()
    people = [digits.batch(index) for index in range(4)]
    client = Client(model, share_labels=True, defenses=[local_iterations(10, learning_rate=0.05)])
    updates = [client.update(batch) for batch in people]
    unaware = [dataclasses.replace(update, local=LocalTraining()) for update in updates]
    attack = small_attack(matching=matching.cosine(), optimizer=optimizers.adam(0.1), iterations=80)
    plain = psnr(attack.reconstruct_many(model, unaware), people)
    adaptive = psnr(attack.reconstruct_many(model, updates), people)
    assert plain.max() < 18
    assert adaptive.min() > 30


def test_local_iterations_save_rounds():
    digits, model = data.load("digits"), models.mlp(channels=1, size=8, hidden=(32,)).double()
    training, unseen = digits.batch(range(1500)), digits.batch(range(1500, 1797))

    def accuracy(steps: int) -> float:
        client = Client(model, defenses=[local_iterations(steps, learning_rate=0.1)])
        trained = fit(client, training, rounds=20, learning_rate=0.1, momentum=0.0)
        return float((trained(unseen.images.double()).argmax(dim=1) == unseen.labels).double().mean())

    assert accuracy(10) > accuracy(1) + 0.2


@pytest.mark.parametrize("size", [None, 2])
def test_steps_replace_epochs_and_the_optimizer_stays(size):
    adam = {"optimizer": "adamw", "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.01}
    for kept in (adam, {"momentum": 0.9, "nesterov": True, "clip": 0.5}):
        local = LocalTraining(epochs=3, learning_rate=0.3, batch_size=4, **kept)
        agreed = local_iterations(5, learning_rate=0.2, batch_size=size).agree(local)
        assert agreed == LocalTraining(5, 0.2, size, **kept)


def test_an_order_of_samples_stays_where_there_are_local_batches():
    local = LocalTraining(epochs=1, batch_size=2, order=[3, 1, 0, 2], drop_last=True)
    agreed = local_iterations(2, batch_size=2).agree(local)
    assert agreed == LocalTraining(2, 0.1, 2, order=[3, 1, 0, 2], drop_last=True)
    assert [chosen.tolist() for chosen in agreed.batches(4)] == [[3, 1], [0, 2]]
    assert local_iterations(2).agree(local) == LocalTraining(2, 0.1, None)
    shuffled = LocalTraining(epochs=1, batch_size=2, shuffle=True)
    assert local_iterations(2, batch_size=2).agree(shuffled).shuffle
    assert local_iterations(2).agree(shuffled) == LocalTraining(2, 0.1, None)
