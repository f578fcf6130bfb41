"""What the entries of the matrix do: people, sums, mixtures, noise and other networks."""

from dataclasses import replace

import pytest
import torch
from matrix.small import DIVISION, NONE, PRIVATE, PUBLIC, SCENE, Guess, few
from torch import nn

from gilib import iteration, metrics
from gilib.defenses.aggregation_messages import flat
from gilib.federated import LocalTraining
from gilib.iteration import matching, priors
from gilib.iteration.hidden import searched
from gilib.matrix import DEFENSES, Adaptation, AttackCell, CostCell, Noisy, Scene
from gilib.matrix.attacks import adapted
from gilib.matrix.columns import NOISE, lenet
from gilib.matrix.defenses import unaware
from gilib.matrix.federation import accuracy, trajectory
from gilib.matrix.networks import enumerated, patches
from gilib.matrix.plan import DIVISION as BOXED
from gilib.matrix.plan import INVERTING, LINEAR, RGAP, SPEAR, convnet_scene, dense_scene, lenet_scene
from gilib.matrix.scenes import digits, photographs, reader

BY_NAME = {entry.name: entry for entry in DEFENSES}


def at_start(name, scene=SCENE, rounds=1):
    entry = BY_NAME[name]
    return entry, entry.view(scene, [entry.network(scene)] * rounds)


def psnr(entry, view, way, attack):
    own = entry.victims(view.scene)
    images = getattr(entry, way)(attack, view).double().clamp(0, 1)
    return metrics.psnr(images, view.scene.private.images[own])


def test_nobody_who_is_attacked_is_in_the_training():
    for private, public in (digits(), photographs()):
        apart = torch.cdist(private.images.flatten(1).double(), public.images.flatten(1).double())
        assert apart.min() > 0
    scene = lenet_scene(1)
    assert len(scene.own.unique()) == scene.people == len(scene.held)
    assert not torch.equal(scene.own, lenet_scene(0).own)


def test_a_scene_says_what_is_wrong_with_it():
    with pytest.raises(ValueError, match="needs 16 private images"):
        Scene("too few", lenet, few(PRIVATE, 4), PUBLIC)
    with pytest.raises(ValueError, match="stages must rise"):
        replace(SCENE, stages=(5, 2))
    with pytest.raises(ValueError, match="Resize"):
        Scene("sizes", lenet, PRIVATE, photographs()[1])
    with pytest.raises(ValueError, match="does not take its images"):
        replace(SCENE, network=lambda seed: nn.Linear(3, 10)).built()
    with pytest.raises(ValueError, match="one logit a class"):
        replace(SCENE, network=lambda seed: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))).built()


def test_an_adaptation_changes_every_stage_and_only_what_it_names():
    how = Adaptation(matching=matching.sent_only, priors=(priors.total_variation(0.1),), draws=searched())
    attack = iteration.gias(torch.nn.Identity(), 4, weight_iterations=10)
    for before, after in zip(attack.stages, adapted(attack, how).stages, strict=True):
        assert after.matching == matching.sent_only(before.matching)
        assert after.priors == (*before.priors, priors.total_variation(0.1))
        assert after.draws == searched()
        assert replace(after, matching=before.matching, priors=before.priors, draws=before.draws) == before
    assert adapted(attack, Adaptation()) == attack


def test_the_plain_attacker_takes_local_training_for_one_step():
    _, view = at_start("Local iterations")
    update = view.sent[0][0]
    assert update.local.steps == 10
    assert unaware(update) == replace(update, local=LocalTraining())


@pytest.mark.parametrize(
    ("name", "plain", "adaptive"), [("MixUp", 20, 100), ("InstaHide", 10, 14), ("ATS", 15, 18), ("Plain noise", 28, 30)]
)
def test_what_was_obscured_comes_back_from_exact_encodings(name, plain, adaptive):
    entry, view = at_start(name, dense_scene(), rounds=4 if name == "InstaHide" else 1)
    assert psnr(entry, view, "plain", DIVISION).median() < plain
    assert psnr(entry, view, "adaptive", BOXED).median() > adaptive


def test_a_sum_stops_division_and_not_spear():
    entry, view = at_start("Secure aggregation")
    _, alone = at_start("None")
    mean = torch.stack([one.gradients["linear.weight"] for one in alone.sent[0]]).mean(dim=0)
    [update] = view.sent[0]
    torch.testing.assert_close(update.gradients["linear.weight"], mean, atol=1e-6, rtol=1e-6)
    assert update.batch_size == len(update.labels) == SCENE.people
    found = entry.adaptive(SPEAR, view).clamp(0, 1)
    assert metrics.psnr(found[metrics.match(found, SCENE.together.images.double())], SCENE.together.images).min() > 60
    assert psnr(entry, view, "adaptive", DIVISION).max() < 25


@pytest.mark.parametrize("name", ["DP-SGD, central", "DP-SGD, distributed", "DP-SGD, local"])
def test_the_noise_of_attack_and_training_is_what_the_row_says(name):
    entry, clean = BY_NAME[name], BY_NAME["Clipping"]
    model, others = SCENE.built(), SCENE.others(0)
    exact = torch.cat([value.flatten() for value in clean.mean(SCENE, model, others, 0).values()])
    noisy = torch.cat([value.flatten() for value in entry.mean(SCENE, model, others, 0).values()])
    people = len(others)
    expected = NOISE / people * (people**0.5 if name == "DP-SGD, local" else 1)
    assert (noisy - exact).std() == pytest.approx(expected, rel=0.03)
    seen = torch.cat([flat(one) for one in entry.view(SCENE, [model]).sent[0]])
    plain = [flat(one) for one in clean.view(SCENE, [model]).sent[0]]
    plain = torch.cat(plain) if name == "DP-SGD, local" else torch.stack(plain).mean(dim=0)
    assert (seen - plain).std() == pytest.approx(NOISE if name == "DP-SGD, local" else NOISE / people, rel=0.03)


def test_noise_differs_from_round_to_round_and_comes_again():
    entry = BY_NAME["DP-SGD, central"]
    assert isinstance(entry, Noisy)
    model = SCENE.built()
    views = [entry.view(SCENE, [model, model]) for _ in range(2)]
    one, other = (flat(view.sent[round][0]) for view, round in ((views[0], 0), (views[0], 1)))
    assert not torch.equal(one, other)
    assert torch.equal(one, flat(views[1].sent[0][0]))


def test_encryption_leaves_only_a_guess():
    entry, view = at_start("Encryption")
    assert torch.equal(entry.adaptive(DIVISION, view), entry.plain(Guess(), view))
    assert not entry.differs(DIVISION, view)
    assert entry.sent_bytes(SCENE) > NONE.sent_bytes(SCENE)


@pytest.mark.parametrize("defense", DEFENSES, ids=lambda one: one.name)
def test_the_mean_of_a_round_is_the_mean_of_what_people_send(defense):
    if defense.family == "obscuration" or defense.name in ("Dropout", "PRECODE", "Secret branch"):
        pytest.skip("draws or layers of each client's own")
    model, others = defense.network(SCENE), SCENE.others(3)
    mean = defense.mean(SCENE, model, others, 3)
    each = [defense.client(SCENE, model, 100 + place).update(one, round=3) for place, one in enumerate(others)]
    if isinstance(defense, Noisy):
        return  # the test of the noise compares it
    for name, value in mean.items():
        torch.testing.assert_close(value, torch.stack([one.gradients[name] for one in each]).mean(dim=0))


def test_linear_loss_reads_the_slope_of_one_image_and_refuses_more():
    scene = lenet_scene()
    entry, view = at_start("None", scene)
    assert psnr(entry, view, "adaptive", LINEAR).min() > 40
    four = replace(scene, batch=4)
    with pytest.raises(ValueError, match="one image"):
        entry.adaptive(LINEAR, entry.view(four, [four.built()]))


def test_counting_grey_levels_gives_every_digit_exactly():
    scene = lenet_scene()
    entry, view = at_start("Fewer filters", scene)
    found = torch.cat([enumerated(view.models[0], one) for one in view.sent[0]])
    assert torch.equal(found, scene.together.images.double())
    assert torch.equal(entry.adaptive(INVERTING, view), found)
    assert sum(value.numel() for value in patches(3)[0].parameters()) < 16


def test_precode_trains_with_its_divergence():
    entry = BY_NAME["PRECODE"]
    model = entry.network(lenet_scene())
    outputs = model(lenet_scene().together.images.double())
    assert outputs.shape == (16, 11)
    assert (outputs[:, -1] > 0).all()
    assert entry.logits(model, lenet_scene().together.images.double()).shape == (16, 10)


def test_an_attack_that_does_not_apply_is_recorded_with_its_reason():
    cell = AttackCell(convnet_scene(), BY_NAME["Secure aggregation"], RGAP, 0)
    result = cell.measure()
    assert "one image" in result["adaptive"]["refused"]


def test_the_federation_learns_and_says_how_well():
    scene = lenet_scene()
    models = trajectory(NONE, scene, 100)
    assert len(models) == 101
    assert accuracy(NONE, scene, models[0]) < 0.3
    assert accuracy(NONE, scene, models[-1]) > 0.75


def test_the_attackers_own_network_reads_true_digits():
    scene = lenet_scene()
    assert metrics.read(scene.private.images, scene.private.labels, reader(scene)).double().mean() > 0.85


def test_costs_do_not_depend_on_what_an_attacker_knows():
    entry = BY_NAME["Soteria"]
    assert CostCell(SCENE, entry).key == CostCell(SCENE, replace(entry, adaptation=Adaptation())).key
    assert CostCell(SCENE, entry).key != CostCell(SCENE, replace(entry, rate=3.0)).key
