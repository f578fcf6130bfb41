"""Several rounds as one update of a larger network: its gradients are the rounds', and the truth explains them."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from matrix.small import PATIENT

from gilib.defenses.gradient import top_k
from gilib.federated import Client, LocalTraining, as_targets
from gilib.iteration import matching
from gilib.matrix import DEFENSES
from gilib.matrix.federation import trajectory
from gilib.matrix.rounds import Owed, Rounds, joined

BY_NAME = {entry.name: entry for entry in DEFENSES}
MODELS = trajectory(BY_NAME["None"], PATIENT, 4)[:4]


def again(name: str, person: int = 0):
    """What a client with the true image would send of the joined network, without the last step of the defense."""
    entry = BY_NAME[name]
    view = entry.view(PATIENT, MODELS)
    update = joined(view.models, view.senders[person])
    client = Client(Rounds(view.models), loss=update.loss, local=update.local, share_labels=True)
    batch = replace(PATIENT.held[person], labels=update.labels)
    return update, client.update(batch)


def test_the_gradients_of_the_joined_network_are_those_of_the_rounds():
    update, honest = again("None")
    assert list(update.gradients) == list(honest.gradients)
    for name, value in honest.gradients.items():
        torch.testing.assert_close(value, update.gradients[name], rtol=1e-9, atol=1e-12)


def test_local_steps_stay_apart():
    update, honest = again("Local iterations")
    assert update.local == LocalTraining(10, learning_rate=0.05)
    for name, value in honest.gradients.items():
        torch.testing.assert_close(value, update.gradients[name], rtol=1e-9, atol=1e-12)


def test_targets_repeat_once_a_round():
    update, _ = again("None", person=1)
    one = as_targets(PATIENT.held[1].labels, 10)
    assert torch.equal(update.labels, one.repeat(1, 4))


@pytest.mark.parametrize("wrong", [False, True])
def test_what_error_feedback_owes_is_explained_by_the_truth_alone(wrong):
    entry = replace(BY_NAME["Top-k"], defenses=(top_k(0.05),))
    view = entry.view(PATIENT, MODELS)
    update = joined(view.models, view.senders[0])
    batch = PATIENT.held[1 if wrong else 0]
    plain = Client(Rounds(view.models), loss=update.loss).update(replace(batch, labels=update.labels))
    distance = Owed(matching.squared_l2())(plain.gradients, update.gradients)
    naive = matching.sent_only(matching.squared_l2())(plain.gradients, update.gradients)
    assert naive > 1e-6
    assert (distance < 1e-15) != wrong


def test_the_model_moves_between_the_rounds():
    moved = [torch.dist(one.linear.weight, MODELS[0].linear.weight) for one in MODELS]
    assert moved[0] == 0
    assert all(after > before for before, after in pairwise(moved))
