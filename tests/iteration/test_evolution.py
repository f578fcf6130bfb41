"""CMA-ES on the stack: it minimises without slopes, comes back, prints nothing and touches no global state."""

import pytest
import torch
from victims import minimize, nothing_changes, shared_updates, small_attack, small_lenet

from gilib.iteration.evolution import cma_es

POPULATION = 8


def starts(groups: int, size: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(groups * POPULATION, size, generator=generator, dtype=torch.float64)


def valley(x: torch.Tensor) -> torch.Tensor:
    """A bowl ten times steeper in one direction than in another, with its minimum at one, where it is zero."""
    return (torch.linspace(1, 10, len(x)) * (x - 1).square()).sum()


def test_every_group_of_rows_finds_the_minimum():
    path, losses = minimize(cma_es(POPULATION), valley, starts(3), 150)
    best = losses.reshape(150, 3, POPULATION).amin(dim=2)
    assert (best[0] > 1).all()
    assert (best[-1] < 1e-3).all(), best[-1]
    torch.testing.assert_close(path[-1], torch.ones_like(path[-1]), atol=0.1, rtol=0)


def test_only_values_matter_and_only_by_their_order():
    """A loss that is squashed, without any slope, gives the very same path."""
    begin = starts(1)
    ordinary, _ = minimize(cma_es(POPULATION), valley, begin, 30)
    squashed, _ = minimize(cma_es(POPULATION), lambda x: valley(x).detach().sqrt().atan(), begin, 30)
    torch.testing.assert_close(ordinary, squashed, rtol=1e-9, atol=1e-9)


def test_a_stack_gives_what_its_groups_give_alone_and_seeds_differ():
    begin = starts(3)
    together, _ = minimize(cma_es(POPULATION), valley, begin, 20)
    for group in range(3):
        rows = slice(group * POPULATION, (group + 1) * POPULATION)
        alone, _ = minimize(cma_es(POPULATION), valley, begin[rows], 20)
        assert torch.equal(together[:, rows], alone)
    other, _ = minimize(cma_es(POPULATION, seed=1), valley, begin, 20)
    assert not torch.allclose(together[-1], other[-1])


def test_rows_without_a_finite_loss_rank_last():
    stepper, begin = cma_es(POPULATION).begin(starts(1), 10), starts(1)
    for lost in (torch.nan, torch.inf, -torch.inf):
        losses = torch.arange(POPULATION, dtype=torch.float64)
        losses[0] = lost
        begin, stuck = stepper.step(begin, losses, begin)
        assert begin.isfinite().all()
        assert not stuck.any()


def test_an_attack_by_evolution_lowers_its_objective_and_leaves_the_world_alone(capfd):
    model = small_lenet()
    attack = small_attack(optimizer=cma_es(POPULATION, 0.1), restarts=2 * POPULATION, iterations=40)
    shared = shared_updates(model, 2)
    with nothing_changes(model, capfd):
        found = attack.reconstruct_many(model, shared, seed=3)
        again = attack.reconstruct_many(model, shared, seed=3)
        alone = attack.reconstruct(model, shared[0], seed=3)
    for one, other in zip(found, again, strict=True):
        assert torch.equal(one.images, other.images)
    torch.testing.assert_close(alone.images, found[0].images)
    blind = small_attack(restarts=2 * POPULATION, iterations=1).reconstruct_many(model, shared, seed=3)
    for one, first in zip(found, blind, strict=True):
        assert one.losses.min() < 0.8 * first.losses.min()


def test_restarts_that_make_no_whole_generation_are_refused():
    attack = small_attack(optimizer=cma_es(POPULATION), restarts=POPULATION + 1)
    with pytest.raises(ValueError, match="groups 8 rows into a generation, got 9"):
        attack.reconstruct(small_lenet(), shared_updates(small_lenet(), 1)[0])


@pytest.mark.parametrize("settings", [{"population": 3}, {"sigma": 0.0}])
def test_settings_that_make_no_strategy_are_refused(settings):
    with pytest.raises(ValueError, match="population of at least 4 and a positive sigma"):
        cma_es(**settings)
