"""DP-SGD has the stated clipping and noise, and its accountant bounds the closed form from just above."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from victims import psnr, random_batch, single_images, small_attack, updates

from gilib import data, models
from gilib.data import Batch
from gilib.defenses import privacy
from gilib.defenses.gradient import sign_compression
from gilib.federated import Client, Defense, LocalTraining, Update
from gilib.iteration import matching, optimizers

NOISE = st.floats(0.01, 5)


def flat(update: Update) -> torch.Tensor:
    return torch.cat([value.flatten() for value in update.gradients.values()])


def network() -> torch.nn.Module:
    return models.mlp(channels=1, size=8, classes=10, hidden=(16,), activation="tanh", seed=0).double()


def assert_standard_normal(z: torch.Tensor) -> None:
    """The shape by a test of all values, mean and variance to six standard errors."""
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-6
    assert abs(float(z.mean())) < 6 / len(z) ** 0.5
    assert abs(float(z.square().mean()) - 1) < 6 * (2 / len(z)) ** 0.5


@settings(deadline=None, max_examples=25)
@given(clip=st.floats(1e-3, 100), count=st.integers(1, 5), seed=st.integers(0, 99))
def test_clipping_bounds_every_sample_and_nothing_else(clip, count, seed):
    model, batch = network(), random_batch(count, channels=1, size=8, seed=seed)
    singles = [
        flat(Client(model).update(Batch(batch.images[i : i + 1], batch.labels[i : i + 1]))) for i in range(count)
    ]
    expected = sum(g * min(1.0, clip / float(g.norm())) for g in singles) / count
    shared = flat(Client(model, defenses=(privacy.dp_sgd(clip, 0.0),)).update(batch))
    torch.testing.assert_close(shared, expected)
    assert shared.norm() <= clip * (1 + 1e-9)


@settings(deadline=None, max_examples=25)
@given(clip=st.floats(0.01, 10), noise=NOISE, count=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_noise_is_gaussian_with_the_stated_width(clip, noise, count, seed):
    model, batch = network(), random_batch(count, channels=1, size=8, seed=3)
    clean = flat(Client(model, defenses=(privacy.dp_sgd(clip, 0.0),)).update(batch))
    client = Client(model, defenses=(privacy.dp_sgd(clip, noise),), seed=seed)
    shared = torch.cat([flat(client.update(batch, round=turn)) for turn in range(5)])
    assert_standard_normal((shared - clean.repeat(5)) / (noise * clip / count))


@settings(deadline=None, max_examples=15)
@given(std=NOISE, seed=st.integers(0, 99))
def test_plain_noise_is_gaussian_and_does_not_clip(std, seed):
    model, batch = network(), random_batch(3, channels=1, size=8, seed=3)
    client = Client(model, defenses=(privacy.gaussian_noise(std),), seed=seed)
    update = client.update(batch)
    assert update.local == LocalTraining()
    noisy = torch.cat([flat(client.update(batch, round=turn)) for turn in range(5)])
    assert_standard_normal((noisy - flat(Client(model).update(batch)).repeat(5)) / std)
    assert not torch.equal(flat(update), flat(client.update(batch, round=1)))


@settings(deadline=None, max_examples=25)
@given(noise=st.floats(0.5, 20), rounds=st.integers(1, 1000), delta=st.sampled_from([1e-3, 1e-5, 1e-7]))
def test_the_accountant_lies_a_little_above_the_closed_form(noise, rounds, delta):
    exact = privacy.gaussian_epsilon(noise, rounds=rounds, delta=delta)
    bound = privacy.epsilon(noise, sample_rate=1.0, rounds=rounds, delta=delta)
    assert exact <= bound <= 1.35 * exact + 0.05


@settings(deadline=None, max_examples=25)
@given(noise=st.floats(0.3, 20), delta=st.floats(1e-9, 1e-2))
def test_the_closed_form_inverts_itself(noise, delta):
    value = privacy.gaussian_epsilon(noise, delta=delta)
    reached = privacy.gaussian_delta(value, noise=noise)
    assert reached <= delta * (1 + 1e-6) if value == 0 else math.isclose(reached, delta, rel_tol=1e-4)


def test_the_accountant_agrees_with_opacus_and_sampling_helps():
    from opacus.accountants import RDPAccountant

    settled = {"sample_rate": 0.05, "rounds": 300, "delta": 1e-5}
    accountant = RDPAccountant()
    accountant.history = [(1.1, 0.05, 300)]
    ours = privacy.epsilon(1.1, **settled)
    assert 0.97 * accountant.get_epsilon(1e-5) <= ours <= accountant.get_epsilon(1e-5) * (1 + 1e-9)
    assert ours < 0.2 * privacy.epsilon(1.1, **(settled | {"sample_rate": 1.0}))
    assert privacy.epsilon(0.0, **settled) == privacy.gaussian_epsilon(0.0, delta=1e-5) == math.inf


def test_noise_costs_an_attack_its_image_and_clipping_does_not():
    model, digits = (
        models.lenet(channels=1, size=8, width=8, activation="tanh", bound=0.15).double(),
        data.load("digits"),
    )
    batches = single_images(digits, 4)
    attack = small_attack(matching=matching.cosine(), optimizer=optimizers.adam(0.1), iterations=80)
    quality = {}
    for noise in (0.0, 1.0):
        shared = updates(model, batches, defenses=(privacy.dp_sgd(0.5, noise),), share_labels=True)
        quality[noise] = psnr(attack.reconstruct_many(model, shared), batches).median()
    assert quality[0.0] > quality[1.0] + 5


def test_clipping_leaves_the_exact_attack_on_one_image_untouched():
    model, batch = network(), single_images(data.load("digits"), 1)[0]
    gradients = Client(model, defenses=(privacy.dp_sgd(0.01, 0.0),)).update(batch).gradients
    weight, bias = (value for name, value in list(gradients.items())[:2])
    row = bias.abs().argmax()
    torch.testing.assert_close(weight[row] / bias[row], batch.images.double().flatten())


def test_errors_name_what_to_do():
    for wrong in (
        lambda: privacy.dp_sgd(0.0, 1.0),
        lambda: privacy.dp_sgd(1.0, -1.0),
        lambda: privacy.gaussian_noise(math.nan),
        lambda: privacy.epsilon(1.0, sample_rate=0.0, rounds=1, delta=1e-5),
        lambda: privacy.gaussian_epsilon(1.0, rounds=0, delta=1e-5),
    ):
        with pytest.raises(ValueError, match="got"):
            wrong()
    client = Client(network(), defenses=(privacy.dp_sgd(1.0, 1.0),), local=LocalTraining(steps=2))
    with pytest.raises(ValueError, match="steps=1"):
        client.update(random_batch(2, channels=1, size=8))
    changed = dataclasses.replace(Client(network()).update(random_batch(1, channels=1, size=8)))
    with pytest.raises(ValueError, match="no other"):
        privacy.dp_sgd(1.0, 1.0).protect(changed, generator=torch.Generator())


@pytest.mark.parametrize("earlier", [sign_compression(scaled=False), privacy.gaussian_noise(0.1)])
def test_an_update_that_was_changed_before_the_noise_is_refused(earlier: Defense) -> None:
    batch, last = random_batch(2, channels=1), privacy.dp_sgd(0.1, 1.0)
    with pytest.raises(ValueError, match="list dp_sgd first"):
        Client(network(), defenses=(earlier, last)).update(batch)
    Client(network(), defenses=(last, earlier)).update(batch)
