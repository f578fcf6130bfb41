"""Noise that clients add in whole numbers: the sum comes back, the noise is what was promised, and so is epsilon."""

import math

import numpy as np
import pytest
import torch
from dp_accounting.pld import privacy_loss_distribution
from scipy import special, stats

from gilib.defenses.aggregation_messages import Agreement
from gilib.defenses.distributed_noise import DistributedNoise, skellam_divergence, skellam_epsilon, wrapped
from gilib.defenses.encryption import FixedPoint
from gilib.defenses.privacy import gaussian_epsilon
from gilib.defenses.secure_aggregation import PROTOCOLS, aggregate
from gilib.federated import seeded_generator

SUMS = DistributedNoise(numbers=1000, clients=20, clip=2.0, noise=0.5, scale=200.0)


def vectors(count: int, *, norm: float, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(count, SUMS.numbers, generator=seeded_generator(seed), dtype=torch.float64)
    return norm * drawn / drawn.norm(dim=1, keepdim=True)


def sent(sums: DistributedNoise, some: torch.Tensor, seed: int = 0) -> list[torch.Tensor]:
    generator = seeded_generator(seed)
    return [sums.encode(one, generator=generator) for one in some]


def test_the_sum_comes_back_with_the_noise_that_was_promised():
    some = vectors(20, norm=1.5)
    errors = SUMS.decode(sum(sent(SUMS, some))) - some.sum(dim=0)
    assert errors.std() == pytest.approx(0.5 * 2.0, rel=0.08)
    assert errors.mean().abs() < 0.1


def test_too_long_vectors_are_clipped_and_others_are_not():
    quiet = DistributedNoise(1000, 20, 2.0, 1e-6, 1e5)
    for norm, kept in ((1.5, 1.5), (50.0, 2.0)):
        found = quiet.decode(sum(sent(quiet, vectors(1, norm=norm))))
        assert found.norm() == pytest.approx(kept, rel=1e-3)


def test_messages_are_whole_numbers_within_the_stated_norms():
    for seed in range(20):
        whole = SUMS.rounded(
            SUMS.scale * SUMS.rotated(vectors(1, norm=2.0, seed=seed)[0]), generator=seeded_generator(9)
        )
        assert torch.equal(whole, whole.round())
        assert whole.norm() <= SUMS.l2
        assert whole.abs().sum() <= SUMS.l1


def test_rounding_is_right_on_average():
    value = torch.full((SUMS.padded,), 0.3, dtype=torch.float64)
    generator = seeded_generator(0)
    mean = torch.stack([SUMS.rounded(value, generator=generator) for _ in range(40)]).mean()
    assert mean == pytest.approx(0.3, abs=0.01)


def test_rotation_spreads_one_large_entry_and_keeps_the_norm():
    spike = torch.zeros(1000, dtype=torch.float64)
    spike[3] = 2.0
    spread = SUMS.rotated(spike)
    torch.testing.assert_close(spread.abs(), torch.full_like(spread, 2 / math.sqrt(1024)))
    torch.testing.assert_close(SUMS.decode(SUMS.scale * spread), spike)


def test_the_shares_of_all_clients_are_skellam_noise():
    zero = torch.zeros(20, SUMS.numbers)
    total = sum(sent(SUMS, zero))
    expected = stats.skellam(SUMS.variance / 2, SUMS.variance / 2)
    assert total.var() == pytest.approx(SUMS.variance, rel=0.15)
    assert stats.kstest((total.numpy() + np.random.default_rng(0).random(len(total)) - 0.5), expected.cdf).pvalue > 1e-4


@pytest.mark.parametrize(("variance", "shift"), [(4, 1), (50, 3), (400, 10)])
@pytest.mark.parametrize("order", [2, 8, 32])
def test_the_divergence_is_no_smaller_than_the_exact_one(variance, shift, order):
    x = np.arange(-int(12 * math.sqrt(variance) + 50), int(12 * math.sqrt(variance) + 50))
    noise = stats.skellam(variance / 2, variance / 2)
    exact = special.logsumexp(order * noise.logpmf(x) - (order - 1) * noise.logpmf(x - shift)) / (order - 1)
    bound = skellam_divergence(order, shift, shift, variance=variance)
    assert exact <= bound
    if order * shift <= variance / 4:
        assert bound < 1.05 * exact


@pytest.mark.parametrize(("variance", "shift", "rounds"), [(50, 3, 1), (50, 3, 10), (400, 10, 1), (400, 10, 10)])
def test_the_accountant_agrees_with_dp_accounting(variance, shift, rounds):
    width = int(9 * math.sqrt(variance) + 40)
    x, noise = np.arange(-width, width + shift), stats.skellam(variance / 2, variance / 2)
    one, other = (dict(zip(x.tolist(), noise.logpmf(x - k), strict=True)) for k in (0, shift))
    exact = privacy_loss_distribution.from_two_probability_mass_functions(one, other).self_compose(rounds)
    ours = skellam_epsilon(shift, shift, variance=variance, rounds=rounds, delta=1e-5)
    assert exact.get_epsilon_for_delta(1e-5) <= ours < 1.15 * exact.get_epsilon_for_delta(1e-5)


def test_fine_steps_cost_nothing_beside_gaussian_noise():
    fine = DistributedNoise(4000, 50, 1.0, 1.0, scale=5000.0)
    for rounds in (1, 100):
        exact = gaussian_epsilon(1.0, rounds=rounds, delta=1e-5)
        assert exact <= fine.epsilon(rounds=rounds, delta=1e-5) < 1.1 * exact
    coarse = DistributedNoise(4000, 50, 1.0, 1.0, scale=20.0)
    assert coarse.epsilon(rounds=1, delta=1e-5) > 2 * fine.epsilon(rounds=1, delta=1e-5)


def test_fewer_honest_clients_leave_less_privacy():
    spent = [SUMS.epsilon(rounds=5, delta=1e-5, honest=honest) for honest in (20, 10, 1)]
    assert spent == sorted(spent)
    alone = DistributedNoise(1000, 1, 2.0, 0.5 / math.sqrt(20), 200.0)
    assert spent[2] == pytest.approx(alone.epsilon(rounds=5, delta=1e-5))


def test_a_round_of_masking_gives_the_same_sum():
    some = sent(SUMS, vectors(20, norm=1.5))
    codec = FixedPoint(bits=16, bound=2.0**15 - 1, clients=20)
    assert max(float(one.abs().max()) for one in some) < codec.bound
    agreed = Agreement(SUMS.padded, 20, private=10, needed=15, codec=codec)
    played = aggregate(PROTOCOLS["masking"], agreed, some)
    assert torch.equal(played.sums.round(), sum(some))
    torch.testing.assert_close(SUMS.decode(played.sums), SUMS.decode(sum(some)))


def test_a_sum_that_fits_survives_the_modulus_and_a_larger_one_does_not():
    total = torch.tensor([-8.0, 7.0, 8.0, -9.0, 23.0])
    assert wrapped(total, 4).tolist() == [-8.0, 7.0, -8.0, 7.0, 7.0]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="expected positive"):
        DistributedNoise(10, 5, 1.0, 0.0, 100.0)
    with pytest.raises(ValueError, match="expected positive"):
        DistributedNoise(10, 5, math.nan, 1.0, 100.0)
    with pytest.raises(ValueError, match="Clip it first"):
        SUMS.rounded(torch.full((SUMS.padded,), 100.0, dtype=torch.float64), generator=seeded_generator(0))
    with pytest.raises(ValueError, match="1000 finite numbers"):
        SUMS.encode(torch.zeros(5), generator=seeded_generator(0))
    with pytest.raises(ValueError, match="finite"):
        SUMS.encode(torch.full((1000,), torch.nan), generator=seeded_generator(0))
    for wrong in ({"honest": 0}, {"honest": 21}, {"rounds": 0}, {"delta": 1.0}):
        with pytest.raises(ValueError, match="honest clients"):
            SUMS.epsilon(**{"rounds": 1, "delta": 1e-5, **wrong})
