"""On a card: clients, labels, attacks and recursion give there what they give here, wherever the images lie.

Without a card these tests are skipped; other default devices and fake tensors are tested beside each part.
"""

import copy
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from recursion.own_networks import SHAPE, Dense, Inverted
from test_zoo import BATCH, ZOO, built, objective
from torch import nn
from torch.testing import assert_close
from victims import random_batch, small_attack, small_convnet, small_lenet

from gilib import iteration, metrics
from gilib.data import Batch
from gilib.defenses import gradient, obscuration, privacy
from gilib.federated import Client, LocalTraining
from gilib.iteration import evolution, labels, priors
from gilib.recursion import jacobian_rank, phong, rank_analysis, rgap, spear

DEVICE = os.environ.get("GILIB_CARD", "cuda")  # "cpu": to see that these tests themselves work
pytestmark = pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="PyTorch finds no card here")

CLOSE = {"rtol": 1e-6, "atol": 1e-9}
POOL = random_batch(4, seed=9)
CLIENTS: dict[str, Callable[[nn.Module], Client]] = {
    "plain": Client,
    "batch norm in train mode": lambda model: Client(model, mode="train", share_buffers=True),
    "three local steps": lambda model: Client(model, local=LocalTraining(steps=3, learning_rate=0.05)),
    "noise": lambda model: Client(model, defenses=[privacy.gaussian_noise(1e-3)], seed=0),
    "dp_sgd": lambda model: Client(model, defenses=[privacy.dp_sgd(1.0, 1e-3)], seed=0),
    "pruning": lambda model: Client(model, defenses=[gradient.pruning(0.5)]),
    "mixup": lambda model: Client(model, defenses=[obscuration.mixup(classes=5, pool=POOL)], seed=0),
}
RESTORERS = {"idlg": labels.idlg, "llg": labels.llg, "counts": labels.counts, "rlg": labels.rlg}
ATTACKS: dict[str, Callable[[], Any]] = {
    "Adam": lambda: small_attack(labels=labels.known()),
    "DLG": lambda: iteration.dlg(iterations=8),
    "CPL": lambda: iteration.cpl(iterations=8),
    "cosine with total variation": lambda: iteration.inverting_gradients(iterations=8),
    "batch statistics": lambda: small_attack(priors=[priors.batch_statistics(1e-2)]),
    "evolution": lambda: small_attack(optimizer=evolution.cma_es(4), restarts=4),
    "L-BFGS": lambda: small_attack(optimizer=iteration.lbfgs.lbfgs()),
}


def moved(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).to(DEVICE)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_sends_what_it_sends_here(name):
    model, batch = small_convnet(norm="batch" if name != "dp_sgd" else None), random_batch(2)
    expected = CLIENTS[name](model).update(batch)
    for own in (batch, Batch(batch.images.to(DEVICE), batch.labels.to(DEVICE))):
        found = CLIENTS[name](moved(model)).update(own)
        for parameter, value in expected.gradients.items():
            assert found.gradients[parameter].device.type == DEVICE
            assert_close(found.gradients[parameter].cpu(), value, **CLOSE)


@pytest.mark.parametrize("name", RESTORERS)
def test_labels_are_restored(name):
    model, batch = moved(small_convnet()), random_batch(1)
    update = Client(model).update(batch)
    assert RESTORERS[name]().restore(update, model).tolist() == batch.labels.tolist()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_finds_what_it_finds_here(name):
    model, batch = small_convnet(norm="batch", activation="sigmoid"), random_batch(1)
    attack, there = ATTACKS[name](), moved(model)
    expected = attack.reconstruct(model, Client(model, share_labels=True).update(batch))
    update = Client(there, share_labels=True).update(batch)
    for found in (attack.reconstruct(there, update), attack.reconstruct_many(there, [update, update])[0]):
        assert_close(found.images.cpu(), expected.images, rtol=1e-3, atol=1e-3)
        assert abs(metrics.psnr(found.images.cpu(), batch.images) - metrics.psnr(expected.images, batch.images)) < 0.1


@pytest.mark.parametrize("name", ZOO)
def test_other_peoples_networks_agree_with_their_client(name):
    model = built(name)
    update, there = Client(model, share_labels=True).update(BATCH), moved(model)
    sent = Client(there, share_labels=True).update(BATCH)
    own, other = (torch.cat([value.flatten().cpu() for value in some.gradients.values()]) for some in (update, sent))
    # A unit that is zero to rounding may fall on either side of its kink.
    assert (other - own).norm() < 1e-4 * own.norm()
    truth, grey = (objective(there, sent, images)[0] for images in (BATCH.images, torch.full_like(BATCH.images, 0.5)))
    assert abs(truth) < 1e-6 * grey


def test_recursion_takes_updates_from_a_card():
    dense, deep, several = Dense(), Inverted(), random_batch(3)
    for attack, model, batch in (
        (phong, dense, random_batch(1)),
        (rgap, deep, random_batch(1)),
        (spear, dense, several),
    ):
        expected = attack(model, Client(model).update(batch)).images
        there = moved(model)
        assert_close(attack(there, Client(there).update(batch)).images.cpu(), expected, rtol=1e-4, atol=1e-6)
    assert rank_analysis(moved(deep), SHAPE).bound == rank_analysis(deep, SHAPE).bound
    assert jacobian_rank(moved(small_lenet()), SHAPE).rank == jacobian_rank(small_lenet(), SHAPE).rank


def test_a_card_as_the_default_device_changes_nothing_for_a_model_here():
    model, batch = small_convnet(), random_batch(1)
    expected = small_attack().reconstruct(model, Client(model, share_labels=True).update(batch))
    with torch.device(DEVICE):
        found = small_attack().reconstruct(model, Client(model, share_labels=True).update(batch))
    assert torch.equal(found.images, expected.images)
