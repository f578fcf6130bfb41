"""DP-SGD has the stated clipping and noise, and its accountant bounds the closed form from just above."""

import dataclasses
import importlib
import math
import pkgutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from victims import psnr, random_batch, single_images, small_attack, updates

from gilib import data, defenses, models
from gilib.data import Batch
from gilib.defenses import gradient, local_training, model, obscuration, privacy
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
        lambda: privacy.gaussian_epsilon(1.0, rounds=1.5, delta=1e-5),
        lambda: privacy.epsilon(1.0, sample_rate=0.1, rounds=math.inf, delta=1e-5),
        lambda: privacy.epsilon(1.0, sample_rate=0.1, rounds=math.nan, delta=1e-5),
        lambda: privacy.gaussian_delta(1.0, noise=0.0),
        lambda: privacy.gaussian_delta(-1.0, noise=1.0),
        lambda: privacy.gaussian_delta(math.inf, noise=1.0),
    ):
        with pytest.raises(ValueError, match="got"):
            wrong()
    client = Client(network(), defenses=(privacy.dp_sgd(1.0, 1.0),), local=LocalTraining(steps=2))
    with pytest.raises(ValueError, match="steps=1"):
        client.update(random_batch(2, channels=1, size=8))
    changed = dataclasses.replace(Client(network()).update(random_batch(1, channels=1, size=8)))
    with pytest.raises(ValueError, match="no other"):
        privacy.dp_sgd(1.0, 1.0).protect(changed, generator=torch.Generator())


# --- Beside other defenses ---

FIRST, MIXES, CHOOSES, TRAINS = "list dp_sgd first", "changes the batch", "chooses by the data", "local training"
DRAWS = "samples are mixed|random layers"
TABLE: list[tuple[Defense, str | None, str | None]] = [  # why it is refused before dp_sgd, and after it
    (gradient.pruning(0.5), FIRST, None),
    (gradient.top_k(0.5), FIRST, None),
    (gradient.quantization(4), FIRST, None),
    (gradient.sign_compression(scaled=False), FIRST, None),
    (gradient.soteria(0.5, layer="linear"), CHOOSES, CHOOSES),
    (privacy.gaussian_noise(0.1), FIRST, None),
    (privacy.dp_sgd(0.1, 1.0), "twice", "twice"),
    (local_training.local_iterations(2), TRAINS, TRAINS),
    (local_training.local_iterations(1), TRAINS, TRAINS),
    (model.dropout(0.5), DRAWS, DRAWS),
    (model.precode(4), DRAWS, DRAWS),
    (model.secret_branch(64), None, None),
    (obscuration.mixup(2, classes=10), MIXES, MIXES),
    (obscuration.instahide(2, classes=10), MIXES, MIXES),
    (obscuration.transformations(obscuration.Transformation("rotate", 20.0)), None, None),
]


@pytest.mark.parametrize("other, before, after", TABLE, ids=lambda value: getattr(value, "name", ""))
def test_what_voids_the_guarantee_is_refused(other: Defense, before: str | None, after: str | None) -> None:
    own, batch = privacy.dp_sgd(0.1, 1.0), random_batch(3, channels=1)
    for chosen, reason in (((other, own), before), ((own, other), after)):
        client = Client(network(), defenses=chosen, seed=1)
        if reason is None:
            assert client.update(batch).local.clip == 0.1
        else:
            with pytest.raises(ValueError, match=reason):
                client.update(batch)


def test_the_table_has_every_defense() -> None:
    for module in pkgutil.walk_packages(defenses.__path__, "gilib.defenses."):
        importlib.import_module(module.name)

    def below(kind: type[Defense]) -> set[type[Defense]]:
        return {kind, *(one for child in kind.__subclasses__() for one in below(child))}

    ours = {kind for kind in below(Defense) - {Defense} if kind.__module__.startswith("gilib.defenses.")}
    known = {kind for other, _, _ in TABLE for kind in type(other).__mro__}
    assert {kind for kind in ours if not any(issubclass(kind, one) for one in known & ours)} == set()


@dataclasses.dataclass(frozen=True)
class Doubling(Defense):
    """Doubles what it gets: the update, or the part of every image, as its methods are named in a subclass."""


class DoublingUpdate(Doubling):
    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        return dataclasses.replace(update, gradients={name: 2 * value for name, value in update.gradients.items()})


class Darkening(Doubling):
    def obscure(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        return Batch(batch.images / 2, batch.labels)


class DarkeningEach(Darkening):
    keeps_sensitivity = True


def test_a_defense_from_elsewhere_is_judged_by_what_it_does() -> None:
    own, batch = privacy.dp_sgd(100.0, 1.0), random_batch(2, channels=1)
    with pytest.raises(ValueError, match="DoublingUpdate changes the update before dp_sgd"):
        Client(network(), defenses=(DoublingUpdate(), own)).update(batch)  # shorter than the clip all the same
    Client(network(), defenses=(own, DoublingUpdate(), Doubling())).update(batch)
    for place in (0, 1):
        beside = [own]
        beside.insert(place, Darkening())
        with pytest.raises(ValueError, match="set keeps_sensitivity"):
            Client(network(), defenses=beside).update(batch)
        beside[place] = DarkeningEach()
        Client(network(), defenses=beside).update(batch)


def test_a_secret_branch_leaves_the_noise_on_what_is_shared() -> None:
    batch = random_batch(2, channels=1)
    shared = {}
    for noise in (0.0, 2.0):
        chosen = (model.secret_branch(64), privacy.dp_sgd(0.5, noise))
        shared[noise] = flat(Client(network(), defenses=chosen, seed=3).update(batch))
    assert shared[0.0].norm() <= 0.5
    assert_standard_normal((shared[2.0] - shared[0.0]) / (2.0 * 0.5 / 2))


@pytest.mark.parametrize(
    "local",
    [
        LocalTraining(steps=2),
        LocalTraining(batch_size=1),
        LocalTraining(epochs=2),
        LocalTraining(optimizer="adam"),
        LocalTraining(weight_decay=0.1),
        LocalTraining(momentum=0.9, nesterov=True),
    ],
)
def test_the_noise_fits_one_plain_step(local: LocalTraining) -> None:
    with pytest.raises(ValueError, match=r"one plain step.*got LocalTraining"):
        Client(network(), defenses=(privacy.dp_sgd(1.0, 1.0),), local=local).update(random_batch(2, channels=1))


@pytest.mark.parametrize("local", [LocalTraining(epochs=1), LocalTraining(momentum=0.9)])
def test_one_step_in_other_words_is_the_same(local: LocalTraining) -> None:
    batch, own = random_batch(2, channels=1), (privacy.dp_sgd(1.0, 1.0),)
    plain = flat(Client(network(), defenses=own, seed=1).update(batch))
    assert torch.equal(flat(Client(network(), defenses=own, seed=1, local=local).update(batch)), plain)


# --- Rounds, numbers and devices at the edge ---


@pytest.mark.parametrize("beside", [(), (obscuration.transformations(obscuration.Transformation("rotate", 20.0)),)])
def test_a_round_without_samples_is_the_noise_of_the_sum(beside: tuple[Defense, ...]) -> None:
    nobody = Batch(torch.zeros(0, 1, 8, 8, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))
    client = Client(network(), defenses=(*beside, privacy.dp_sgd(0.5, 3.0)), seed=2)
    shared = [client.update(nobody, round=turn) for turn in range(3)]
    assert {update.batch_size for update in shared} == {0}
    assert_standard_normal(torch.cat([flat(update) for update in shared]) / (3.0 * 0.5))
    with pytest.raises(ValueError, match="at least one sample"):
        Client(network()).update(nobody)


def test_an_epsilon_is_never_negative() -> None:
    for noise, rate, delta in ((50.0, 0.001, 0.1), (10.0, 0.01, 0.3), (100.0, 1.0, 0.9), (20.0, 0.001, 1e-2)):
        value = privacy.epsilon(noise, sample_rate=rate, rounds=1, delta=delta)
        assert value >= 0
        if rate == 1:
            assert value == privacy.gaussian_epsilon(noise, delta=delta) == 0


def test_accounts_hold_at_the_edge_of_what_a_float_can_hold() -> None:
    for noise in (1e-300, 1e-101):  # so little that epsilon has no number
        assert privacy.epsilon(noise, sample_rate=0.5, rounds=3, delta=1e-5) == math.inf
        assert privacy.gaussian_epsilon(noise, rounds=3, delta=1e-5) == math.inf
    for noise in (1e-90, 1e-9, 1e-3):  # then epsilon is nearly 1 / (2 noise^2)
        exact = privacy.gaussian_epsilon(noise, delta=1e-5)
        assert exact == pytest.approx(0.5 / noise**2, rel=0.01)
        assert exact <= privacy.epsilon(noise, sample_rate=1.0, rounds=1, delta=1e-5) <= 1.1 * exact
    assert privacy.gaussian_epsilon(1e150, rounds=10**9, delta=1e-300) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_little_noise_is_not_rounded_away_before_it_is_added(dtype: torch.dtype) -> None:
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps  # below it half precision has nothing
    width = 4 * least
    update = Update({"a": torch.zeros(20_000, dtype=dtype)}, 1, (1, 1, 1))
    noise = privacy.gaussian_noise(width / 2).protect(update, generator=torch.Generator().manual_seed(0)).gradients["a"]
    expected = width / 2 * torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float((noise.double() - expected).abs().max()) <= least / 2 * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_noise_leaves_dtype_and_device_as_they_were(dtype: torch.dtype) -> None:
    net, drawn = network().to(dtype), random_batch(2, channels=1)
    batch = Batch(drawn.images.to(dtype), drawn.labels)
    for defense, width in ((privacy.dp_sgd(0.01, 50.0), 0.25), (privacy.gaussian_noise(0.25), 0.25)):
        update = Client(net, defenses=(defense,), seed=4).update(batch)
        with torch.device("meta"):  # another default device changes nothing
            again = Client(net, defenses=(defense,), seed=4).update(batch)
        for name, value in update.gradients.items():
            assert (value.dtype, value.device.type) == (dtype, "cpu")
            assert torch.equal(value, again.gradients[name])
        clean = privacy.dp_sgd(0.01, 0.0) if isinstance(defense, privacy.DPSGD) else privacy.gaussian_noise(0.0)
        noise = flat(update).double() - flat(Client(net, defenses=(clean,), seed=4).update(batch)).double()
        assert abs(float(noise.std()) / width - 1) < 0.1
