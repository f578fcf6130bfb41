"""L-BFGS: its directions against the textbook recursion, its line search, and where it converges to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from victims import minimize

from gilib.iteration.lbfgs import ARMIJO, CURVATURE, LBFGSStepper, lbfgs, times


def two_loops(gradient: torch.Tensor, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Nocedal & Wright, algorithm 7.4: the inverse Hessian of the pairs (s, y), oldest first, times the gradient."""
    q, alphas = gradient.clone(), []
    for s, y in reversed(pairs):
        alphas.append((s @ q) / (s @ y))
        q = q - alphas[-1] * y
    if pairs:
        s, y = pairs[-1]
        q = (s @ y) / (y @ y) * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + s * (alpha - (y @ q) / (s @ y))
    return q


def inverse_hessian_times(stepper: LBFGSStepper, vectors: torch.Tensor) -> torch.Tensor:
    """What the stepper's memory says of the inverse Hessian, times vectors (N, D)."""
    return stepper._inverse_hessian_times(vectors, times(stepper.steps, vectors), times(stepper.changes, vectors))


def rosenbrock(x: torch.Tensor) -> torch.Tensor:
    return (100 * (x[1:] - x[:-1].square()).square() + (1 - x[:-1]).square()).sum()


def quadratics(rows: int, size: int, *, seed: int, condition: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Random positive definite matrices (N, D, D) of a given condition number, and the minima (N, D)."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(rows, size, size, generator=generator, dtype=torch.float64)).Q
    values = torch.logspace(0, torch.tensor(condition).log10().item(), size, dtype=torch.float64)
    return basis @ torch.diag(values) @ basis.mT, torch.randn(rows, size, generator=generator, dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(history=st.integers(1, 6), pairs=st.integers(0, 9), size=st.integers(2, 12), seed=st.integers(0, 10**6))
def test_the_direction_is_that_of_the_two_loop_recursion(history, pairs, size, seed):
    """Also when the memory is not yet full, when it wraps around, and when rows hold different numbers of pairs."""
    generator = torch.Generator().manual_seed(seed)
    stepper = LBFGSStepper(lbfgs(history), torch.zeros(3, size, dtype=torch.float64))
    matrices, _ = quadratics(3, size, seed=seed, condition=10.0)
    kept: list[list] = [[], [], []]
    for number in range(pairs):
        chosen = torch.tensor([True, number % 2 == 0, False])
        steps = torch.randn(3, size, generator=generator, dtype=torch.float64)
        changes = (matrices @ steps[:, :, None]).squeeze(2)
        stepper._remember(chosen, stepper.point + steps, stepper.gradient + changes)
        for row in chosen.nonzero().flatten().tolist():
            kept[row] = [*kept[row], (steps[row], changes[row])][-history:]
    vectors = torch.randn(3, size, generator=generator, dtype=torch.float64)
    products = inverse_hessian_times(stepper, vectors)
    for row in range(3):
        torch.testing.assert_close(products[row], two_loops(vectors[row], kept[row]), rtol=1e-8, atol=1e-9)


def test_pairs_without_positive_curvature_are_dropped():
    stepper = LBFGSStepper(lbfgs(4), torch.zeros(2, 3, dtype=torch.float64))
    steps = torch.ones(2, 3, dtype=torch.float64)
    changes = torch.stack([steps[0], -steps[1]])
    stepper._remember(torch.tensor([True, True]), steps, changes)
    vectors = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    products = inverse_hessian_times(stepper, vectors)
    torch.testing.assert_close(products[0], two_loops(vectors[0], [(steps[0], changes[0])]))
    assert torch.equal(products[1], vectors[1])


@settings(max_examples=10, deadline=None)
@given(size=st.integers(1, 12), condition=st.floats(1.0, 1e3), seed=st.integers(0, 10**6))
def test_it_converges_on_convex_quadratics(size, condition, seed):
    matrices, minima = quadratics(4, size, seed=seed, condition=condition)
    stepper, x = lbfgs(20).begin(torch.zeros_like(minima), 150), torch.zeros_like(minima)
    best = torch.full((4,), torch.inf, dtype=torch.float64)
    for _ in range(150):
        gradients = torch.einsum("nij,nj->ni", matrices, x - minima)
        losses = (gradients * (x - minima)).sum(1) / 2
        best = torch.minimum(best, losses)
        x, stuck = stepper.step(x, losses, gradients)
        # A search that is at the bottom to rounding cannot go on; before that it must.
        assert not (stuck & (losses > 1e-10)).any()
    assert (best < 1e-12 * condition * (1 + minima.square().sum(1))).all()


@pytest.mark.parametrize("size", [2, 10])
def test_it_converges_on_rosenbrock(size):
    generator = torch.Generator().manual_seed(1)
    starts = 2 * torch.rand(8, size, generator=generator, dtype=torch.float64) - 0.5
    starts[0, ::2], starts[0, 1::2] = -1.2, 1.0  # the usual start
    path, losses = minimize(lbfgs(20), rosenbrock, starts, 60 * size)
    best = losses.argmin(dim=0)
    assert (losses.min(dim=0).values < 1e-12).sum() >= 7  # in 10 dimensions there is a second, local minimum
    assert losses[:, 0].min() < 1e-12 or size == 10
    torch.testing.assert_close(path[best[1], 1], torch.ones(size, dtype=torch.float64), atol=1e-5, rtol=0)


def test_the_base_point_never_moves_up_and_wolfe_holds_at_every_step():
    """Rosenbrock from far away: accepted points satisfy both conditions, so the loss never rises between them."""
    evaluate = torch.func.vmap(torch.func.grad_and_value(rosenbrock))
    candidates = torch.tensor([[-1.2, 1.0], [5.0, -4.0], [-3.0, 8.0]], dtype=torch.float64)
    stepper = lbfgs(5).begin(candidates, 80)
    accepted = 0
    for iteration in range(80):
        gradients, losses = evaluate(candidates)
        before = (stepper.loss.clone(), stepper.slope.clone(), stepper.length.clone(), stepper.direction.clone())
        tried = candidates
        candidates, stuck = stepper.step(candidates, losses, gradients)
        moved = (stepper.point == tried).all(dim=1)
        assert moved.all() or iteration > 0
        assert not stuck[losses > 1e-20].any()
        if iteration == 0:
            continue
        loss, slope, length, direction = before
        assert (losses <= loss + ARMIJO * length * slope)[moved].all()
        assert ((gradients * direction).sum(1) >= CURVATURE * slope)[moved].all()
        assert (stepper.loss <= loss).all()
        assert (stepper.slope[stepper.gradient.norm(dim=1) > 0] < 0).all()  # a direction of descent
        accepted += int(moved.sum())
    assert accepted > 100


def test_a_step_into_infinity_is_shortened():
    """The loss is infinite beyond 1: the first tries fail, then the search goes on inside."""

    def walled(x: torch.Tensor) -> torch.Tensor:
        return -torch.log1p(-x).sum() - 3 * x.sum()  # minimum at 2/3, wall at 1

    path, losses = minimize(lbfgs(5), walled, torch.full((1, 2), -20.0, dtype=torch.float64), 60)
    assert not losses.isfinite().all()
    best = path[losses[:, 0].nan_to_num(nan=torch.inf).argmin(), 0]
    torch.testing.assert_close(best, torch.full((2,), 2 / 3, dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_search_that_cannot_decrease_is_reported_stuck():
    """Where the gradient points the wrong way no step length brings a decrease."""
    stepper = lbfgs(5).begin(torch.ones(1, 3), 100)
    candidates, reports = torch.ones(1, 3), []
    for _ in range(40):
        candidates, stuck = stepper.step(candidates, candidates.square().sum(1), -2 * candidates)
        reports.append(bool(stuck))
        if stuck:
            break
    assert reports[-1]
    assert len(reports) <= 28
