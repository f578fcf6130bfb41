"""Improved models: what they draw, what they keep, what never leaves, who is stopped by them and who is not."""

import dataclasses
import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from victims import fingerprint, nothing_changes, psnr, random_batch, single_images, small_attack, small_lenet

from gilib import data, models
from gilib.data import Batch
from gilib.defenses import model as improvement
from gilib.draws import random_layers, sample_draws
from gilib.federated import (
    Client,
    Defense,
    Update,
    as_function,
    as_targets,
    fit,
    local_update,
    seeded_generator,
    train,
)
from gilib.iteration import hidden, matching, optimizers
from gilib.recursion import rank_analysis

ALL = {
    "dropout": improvement.dropout(0.4),
    "dropout at two places": improvement.dropout(0.4, before=("conv2", "linear")),
    "precode": improvement.precode(4),
    "secret_branch": improvement.secret_branch(192),
}
DRAWING = [name for name in ALL if name != "secret_branch"]


def objective(model: nn.Module, update: Update, batch: Batch, draws: dict[str, torch.Tensor]) -> float:
    """The distance between the update and that of an image, for an attacker who assumes these draws."""
    forward, parameters = as_function(model, draws=draws)
    targets = as_targets(batch.labels, 5)
    made = local_update(forward, parameters, batch.images, targets, loss=update.loss, local=update.local)
    return float(matching.squared_l2()(made, update.gradients).detach())


def digit_net() -> nn.Module:
    return models.lenet(channels=1, size=8, width=8, activation="tanh", bound=0.15).double()


@functools.cache
def digits() -> data.Dataset:
    return data.load("digits")


def attacker(**changes: object) -> object:
    return small_attack(
        **({"matching": matching.cosine(), "optimizer": optimizers.adam(0.1), "iterations": 100} | changes)
    )


@pytest.mark.parametrize("name", ALL)
def test_improving_happens_once_and_leaves_the_callers_model_alone(name, capfd):
    model, defense = small_lenet(), ALL[name]
    with nothing_changes(model, capfd):
        improved = defense.improve(model)
        again = defense.improve(improved)
    assert improved is not model
    assert again is improved
    assert fingerprint(defense.improve(model)) == fingerprint(improved)
    trained = fit(Client(model, defenses=[defense]), random_batch(8), rounds=2, batch_size=4)
    assert defense.improve(trained) is trained


@pytest.mark.parametrize("name", ALL)
def test_the_model_keeps_its_mode_its_dtype_and_its_shape_of_logits(name):
    for model in (small_lenet().float().train(), small_lenet().eval()):
        improved = ALL[name].improve(model)
        assert {part.training for part in improved.modules()} == {model.training}
        assert {value.dtype for value in improved.parameters()} == {next(model.parameters()).dtype}
        images = random_batch(3).images.to(next(model.parameters()))
        assert improved(images).shape == (3, 5)


@pytest.mark.parametrize("name", DRAWING)
def test_the_objective_at_the_truth_is_zero_for_who_knows_the_draws_and_only_for_him(name):
    client, batch = Client(small_lenet(), defenses=[ALL[name]], seed=7), random_batch(3)
    update, model = client.update(batch, round=2), client.improved()
    draws = sample_draws(model, batch.images, seeded_generator(7, 2))
    assert objective(model, update, batch, draws) < 1e-20
    assert objective(model, update, batch, {}) > 1e-4
    others = sample_draws(model, batch.images, seeded_generator(7, 3))
    assert objective(model, update, batch, others) > 1e-4


@pytest.mark.parametrize("name", DRAWING)
def test_a_round_draws_once_and_another_round_or_client_draws_anew(name):
    model, batch = small_lenet(), random_batch(3)

    def sent(seed: int, round: int) -> torch.Tensor:
        update = Client(model, defenses=[ALL[name]], seed=seed).update(batch, round=round)
        return torch.cat([value.flatten() for value in update.gradients.values()])

    assert torch.equal(sent(0, 0), sent(0, 0))
    assert not torch.equal(sent(0, 0), sent(0, 1))
    assert not torch.equal(sent(0, 0), sent(1, 0))


def test_public_are_settings_and_nothing_that_was_drawn():
    expected: dict[str, dict[str, object]] = {
        "dropout": {"p": 0.4, "before": ()},
        "precode": {"latent": 4, "seed": 0},
        "secret_branch": {"strength": 4.0},
    }
    for name, public in expected.items():
        update = Client(small_lenet(), defenses=[ALL[name]], share_buffers=True).update(random_batch(2))
        assert update.public == {name: public}
        assert update.buffers is not None
        assert all(value.numel() == 0 for key, value in update.buffers.items() if key.endswith("draws"))
    assert "seed" not in repr(improvement.secret_branch(192, seed=11))


@settings(deadline=None, max_examples=25)
@given(p=st.floats(0, 0.95), seed=st.integers(0, 99))
def test_masks_are_zeros_and_ones_with_the_stated_share(p, seed):
    layer, inputs = improvement.Dropped(p), torch.ones(40, 250, dtype=torch.float64)
    mask = layer.sample(inputs, seeded_generator(seed))
    assert mask.shape == inputs.shape
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    width = (p * (1 - p) / mask.numel()) ** 0.5
    assert abs(float(mask.mean()) - (1 - p)) <= 6 * width
    layer.draws = mask
    assert torch.equal(layer(inputs), mask / (1 - p))
    assert abs(float(layer(inputs).mean()) - 1) <= 6 * width / (1 - p)


@settings(deadline=None, max_examples=25)
@given(bound=st.floats(0.1, 20), seed=st.integers(0, 99))
def test_what_is_searched_stays_within_what_can_be_drawn(bound, seed):
    numbers = 3 * torch.randn(200, generator=seeded_generator(seed), dtype=torch.float64)
    mask = improvement.Dropped(0.5).relax(numbers)
    assert 0 < mask.min() <= mask.max() < 1
    assert improvement.Unknown(10, bound).relax(numbers).abs().max() <= bound


def test_dropout_lets_half_of_a_layers_gradients_through():
    client = Client(small_lenet(), defenses=[improvement.dropout(0.5)], seed=0)
    weight = client.update(random_batch(1)).gradients["linear.layer.weight"]
    silent = (weight == 0).all(dim=0)  # a dropped feature gives its column no gradient
    draws = sample_draws(client.improved(), random_batch(1).images, seeded_generator(0, 0))
    assert torch.equal(silent, draws["linear.dropout.draws"][0] == 0)
    assert 0.2 < silent.double().mean() < 0.8


def test_dropout_goes_where_it_is_told():
    improved = improvement.dropout(0.3, before=["conv1", "linear"]).improve(small_lenet())
    assert set(random_layers(improved)) == {"conv1.dropout.draws", "linear.dropout.draws"}
    assert isinstance(improved.get_submodule("conv1.layer"), nn.Conv2d)
    nested = improvement.dropout(0.3).improve(models.resnet(5, size=8, width=2, blocks=1, norm=None))
    assert set(random_layers(nested)) == {"linear.dropout.draws"}


@settings(deadline=None, max_examples=15)
@given(latent=st.integers(1, 20), count=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_bottleneck_is_mean_plus_deviation_times_noise(latent, count, seed):
    layer = improvement.Bottleneck(12, latent, seed=seed).double()
    features = torch.randn(count, 12, generator=seeded_generator(seed), dtype=torch.float64)
    mean, log_variance = layer.encode(features).split(latent, dim=1)
    assert torch.equal(layer(features), layer.decode(mean))
    layer.draws = layer.sample(features, seeded_generator(seed, 1))
    assert layer.draws.shape == (count, latent)
    torch.testing.assert_close(layer(features), layer.decode(mean + log_variance.exp().sqrt() * layer.draws))


def test_the_noise_of_the_bottleneck_is_standard_normal():
    noise = improvement.Bottleneck(3, 50, seed=0).sample(torch.zeros(400, 3), seeded_generator(5))
    assert abs(float(noise.mean())) < 0.04
    assert abs(float(noise.std()) - 1) < 0.03


def test_without_noise_precode_is_deterministic():
    first, second = (improvement.precode(6).improve(small_lenet()) for _ in range(2))
    images = random_batch(3).images
    assert torch.equal(first(images), second(images))
    assert torch.equal(first(images), first(images))
    other = improvement.precode(6, seed=1).improve(small_lenet())
    assert not torch.equal(first(images), other(images))


def test_gradients_of_the_secret_branch_never_leave():
    client, batch = Client(small_lenet(), defenses=[improvement.secret_branch(192, seed=3)]), random_batch(2)
    update, improved = client.update(batch), client.improved()
    names = {name for name, _ in improved.named_parameters()}
    assert {name for name in names if name.startswith("secret.")}
    assert set(update.gradients) == {name for name in names if name.startswith("public.")}
    view = improvement.server_view(improved)
    assert {name for name, _ in view.named_parameters()} == set(update.gradients)
    assert torch.equal(view(batch.images), client.model(batch.images))
    added = improved(batch.images) - view(batch.images)
    assert added.abs().max() < 4
    other = improvement.secret_branch(192, seed=4).improve(small_lenet())
    assert not torch.allclose(other(batch.images), improved(batch.images))


def test_the_public_gradients_of_a_branched_model_are_named_as_in_its_public_network():
    client, batch = Client(small_lenet(), defenses=[improvement.secret_branch(192)], seed=0), random_batch(2)
    sent = client.update(batch).gradients
    found = improvement.public_gradients({**sent, "secret.layers.1.weight": torch.ones(1)})
    assert list(found) == [name for name, _ in small_lenet().named_parameters()]
    assert all(value is sent[f"public.{name}"] for name, value in found.items())


def test_the_secret_branch_acts_on_what_is_shared_only_through_p_minus_y():
    client, batch = Client(small_lenet(), defenses=[improvement.secret_branch(192)]), random_batch(2)
    update, improved = client.update(batch), client.improved()
    view, added = improvement.server_view(improved), improved(batch.images) - client.model(batch.images)
    assert objective(view, update, batch, {"secret.draws": added}) < 1e-20
    assert objective(view, update, batch, {}) > 1e-4
    residual = improved(batch.images).softmax(dim=1) - as_targets(batch.labels, 5)
    torch.testing.assert_close(update.gradients["public.linear.bias"], residual.mean(dim=0))


def test_defenses_go_together_in_either_order():
    dropped, branch = improvement.dropout(0.5), improvement.secret_branch(192)
    for defenses in ([dropped, branch], [branch, dropped]):
        client = Client(small_lenet(), defenses=defenses)
        improved = client.improved()
        assert set(random_layers(improved)) == {"public.linear.dropout.draws"}
        assert dataclasses.replace(client, model=improved).improved() is improved
        assert not any("secret" in name for name in client.update(random_batch(2)).gradients)
    twice = Client(small_lenet(), defenses=[improvement.precode(4), improvement.dropout(0.5)]).improved()
    assert len(random_layers(twice)) == 2


@settings(deadline=None, max_examples=20)
@given(bound=st.integers(1, 12))
def test_widest_safe_is_the_last_width_before_the_prediction_turns(bound):
    widths = range(1, 11)
    found = improvement.widest_safe(
        lambda width: nn.Linear(width, 1), widths, safe=lambda net: net.in_features <= bound
    )
    assert found == min(bound, 10)


def test_the_widest_safe_network_leaks_less_than_the_next_one():
    def patches(filters: int) -> nn.Module:
        layers = nn.Conv2d(1, filters, 2, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(16 * filters, 10)
        return models.draw_weights(nn.Sequential(*layers), seed=0).double()

    def safe(net: nn.Module) -> bool:
        return rank_analysis(net, (1, 8, 8)).predicts_leak is False

    width = improvement.widest_safe(patches, range(1, 9), safe=safe)
    assert width == 3
    quality = {}
    for filters in (width - 1, width + 3):
        batches, net = single_images(digits(), 4), patches(filters)
        sent = [Client(net, share_labels=True).update(batch) for batch in batches]
        quality[filters] = psnr(attacker().reconstruct_many(net, sent), batches)
    assert quality[width - 1].max() < 25
    assert quality[width + 3].min() > 45


@pytest.mark.parametrize("stage", [0, 40])
def test_random_layers_stop_who_ignores_the_draws_and_not_who_searches_them(stage):
    batches, training = single_images(digits(), 6), digits().batch(range(300, 1797))
    for defense, least in ((improvement.dropout(0.5), 10), (improvement.precode(16), 15)):
        model = fit(Client(digit_net(), defenses=[defense], seed=0), training, rounds=stage)
        sent = [
            Client(model, defenses=[defense], share_labels=True, seed=seed).update(batch)
            for seed, batch in enumerate(batches)
        ]
        plain = psnr(attacker().reconstruct_many(model, sent), batches)
        left_out = {name: 0.0 for name in sent[0].gradients if name.startswith("linear.") and "encode" not in name}
        foe = attacker(draws=hidden.searched(), matching=matching.weighted(matching.cosine(), left_out))
        adaptive = psnr(foe.reconstruct_many(model, sent), batches)
        assert plain.median() < 20
        assert adaptive.median() > max(25, plain.median() + least)


@pytest.mark.parametrize(("stage", "gain"), [(0, 30), (40, 8)])
def test_the_secret_branch_stops_who_ignores_it_and_not_who_reads_the_bias(stage, gain):
    batches, training = single_images(digits(), 6), digits().batch(range(300, 1797))
    defense = improvement.secret_branch(64, seed=5)
    model = train(defense.improve(digit_net()), training, stages=[stage])[stage]
    view = improvement.server_view(model)
    sent = [Client(model, defenses=[defense], share_labels=True).update(batch) for batch in batches]
    ignored = psnr(attacker().reconstruct_many(view, sent), batches)
    searched = psnr(attacker(draws=hidden.searched()).reconstruct_many(view, sent), batches)
    read = [
        dataclasses.replace(one, loss=_as_read, labels=one.gradients["public.linear.bias"][None], public={})
        for one in sent
    ]
    exact = psnr(attacker().reconstruct_many(view, read), batches)
    assert ignored.median() < 25
    assert searched.median() > ignored.median() + 8
    assert exact.median() > ignored.median() + gain


def _as_read(logits: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """A loss whose gradient at the logits is the residual that was read."""
    return (logits * residual).sum()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: improvement.dropout(1.0), "got 1.0"),
        (lambda: improvement.dropout(-0.1), "got -0.1"),
        (lambda: improvement.precode(0), "got 0"),
        (lambda: improvement.secret_branch(0), "got 0"),
        (lambda: improvement.secret_branch(4, strength=0.0), "0.0"),
        (lambda: improvement.dropout(0.5, before=["head"]).improve(small_lenet()), "no layer 'head'.*linear"),
        (lambda: improvement.precode().improve(nn.Sequential(nn.Conv2d(1, 1, 1))), "Conv2d.*nn.Linear.*before="),
        (lambda: improvement.dropout().improve(nn.Linear(4, 2).double()), "single linear layer"),
        (lambda: improvement.precode(before="conv1").improve(small_lenet()), "'conv1' is a Conv2d"),
        (lambda: improvement.server_view(small_lenet()), "client.improved"),
        (lambda: improvement.widest_safe(lambda w: nn.Linear(w, 1), [2, 3], safe=lambda _: False), "smaller"),
        (lambda: _two_secrets(), "another client"),
    ],
)
def test_errors_name_what_to_do(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def _two_secrets() -> nn.Module:
    first: Defense = improvement.secret_branch(192, seed=1)
    return improvement.secret_branch(192, seed=2).improve(first.improve(small_lenet()))


class HeadFirst(nn.Module):
    """Three fully connected layers; the one that makes the logits is defined first, and one last is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = models.blank_linear(6, 5), models.blank_linear(192, 6)
        self.spare = models.blank_linear(6, 7)
        models.draw_weights(nn.Sequential(self.head, self.body, self.spare), seed=0)
        self.double()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images.flatten(1)).tanh())


class ByValue(HeadFirst):
    """Which way the images take depends on their values, so that nothing can be read off without running it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images if images.sum() > 0 else -images)


def test_the_classifier_is_the_layer_that_makes_the_logits_and_not_the_one_defined_last():
    model, batch = HeadFirst(), random_batch(2)
    dropped = improvement.dropout(0.5).improve(model)
    assert set(random_layers(dropped)) == {"head.dropout.draws"}
    bottled = improvement.precode(4).improve(model)
    assert set(random_layers(bottled)) == {"head.bottleneck.draws"}
    assert bottled(batch.images).shape == (2, 5)
    branched = improvement.secret_branch(192).improve(model)
    assert (branched(batch.images) - model(batch.images)).shape == (2, 5)
    assert improvement.server_view(branched).secret.classes == 5
    assert set(random_layers(improvement.dropout(0.5).improve(branched))) == {"public.head.dropout.draws"}


def test_a_layer_can_be_named_where_none_is_found():
    for defense in (improvement.dropout(0.5), improvement.precode(4)):
        with pytest.raises(ValueError, match="before="):
            defense.improve(ByValue())
    dropped = improvement.dropout(0.5, before=["head"]).improve(ByValue())
    named = improvement.precode(4, before="head")
    assert set(random_layers(dropped)) == {"head.dropout.draws"}
    assert set(random_layers(named.improve(ByValue()))) == {"head.bottleneck.draws"}
    assert named.public == {"latent": 4, "seed": 0, "before": "head"}
    assert named != improvement.precode(4)
    found, told = improvement.precode(4).improve(HeadFirst()), named.improve(HeadFirst())
    assert fingerprint(found) == fingerprint(told)


@pytest.mark.parametrize("name", ALL)
def test_another_default_device_changes_nothing(name):
    model, batch, defense = small_lenet(), random_batch(3), ALL[name]
    expected = Client(model, defenses=[defense], seed=3).update(batch).gradients
    with torch.device("meta"):
        improved = defense.improve(model)
        drawn = sample_draws(improved, batch.images, seeded_generator(3, 0))
    assert {value.device.type for value in (*improved.parameters(), *improved.buffers())} == {"cpu"}
    assert all(torch.equal(drawn[key], one) for key, one in _draws(defense.improve(model), batch).items())
    found = Client(improved, defenses=[defense], seed=3).update(batch).gradients
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def _draws(improved: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    return sample_draws(improved, batch.images, seeded_generator(3, 0))
