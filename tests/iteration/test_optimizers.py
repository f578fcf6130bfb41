"""The element-wise optimizers: beside torch.optim, row by row, and their schedules."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from victims import minimize

from gilib.iteration.lbfgs import lbfgs
from gilib.iteration.optimizers import Adam, adam, adamw, not_finite, sgd, signed_adam

OPTIMIZERS = {
    "sgd": sgd(0.05),
    "adam": adam(0.1),
    "adamw": adamw(0.1, 0.1),
    "signed_adam": signed_adam(0.1),
    "lbfgs": lbfgs(5),
}


def starts(rows: int, size: int = 4, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bowl(x: torch.Tensor) -> torch.Tensor:
    """Smooth, not quadratic, with a different curvature in each direction."""
    return ((1 + torch.arange(len(x))) * x.square()).sum() + x.sin().sum()


def reference(make, start: torch.Tensor, iterations: int, *, sign: bool = False, schedule=()) -> torch.Tensor:
    """The path of an optimizer of torch.optim: (T, D)."""
    point = start.clone().requires_grad_()
    optimizer = make([point])
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=list(schedule), gamma=0.1)
    path = []
    for _ in range(iterations):
        path.append(point.detach().clone())
        optimizer.zero_grad()
        bowl(point).backward()
        if sign:
            point.grad.sign_()
        optimizer.step()
        scheduler.step()
    return torch.stack(path)


@settings(max_examples=10, deadline=None)
@given(rate=st.floats(1e-3, 0.5), seed=st.integers(0, 1000))
def test_adam_is_that_of_torch(rate, seed):
    begin = starts(1, seed=seed)
    ours, _ = minimize(adam(rate), bowl, begin, 40)
    theirs = reference(lambda parameters: torch.optim.Adam(parameters, lr=rate), begin[0], 40)
    torch.testing.assert_close(ours[:, 0], theirs, rtol=1e-8, atol=1e-8)


@settings(max_examples=10, deadline=None)
@given(rate=st.floats(1e-3, 0.5), decay=st.floats(0, 1))
def test_adamw_is_that_of_torch(rate, decay):
    ours, _ = minimize(adamw(rate, decay), bowl, starts(1), 40)
    theirs = reference(lambda parameters: torch.optim.AdamW(parameters, lr=rate, weight_decay=decay), starts(1)[0], 40)
    torch.testing.assert_close(ours[:, 0], theirs, rtol=1e-8, atol=1e-8)


def test_sgd_is_that_of_torch():
    ours, _ = minimize(sgd(0.03), bowl, starts(1), 40)
    theirs = reference(lambda parameters: torch.optim.SGD(parameters, lr=0.03), starts(1)[0], 40)
    torch.testing.assert_close(ours[:, 0], theirs)


def test_signed_adam_is_adam_on_signs_with_three_tenfold_drops():
    """64 iterations: the step falls after 24, 40 and 56 of them."""
    ours, _ = minimize(signed_adam(0.1), bowl, starts(1), 64)
    theirs = reference(
        lambda parameters: torch.optim.Adam(parameters, lr=0.1), starts(1)[0], 64, sign=True, schedule=(24, 40, 56)
    )
    torch.testing.assert_close(ours[:, 0], theirs, rtol=1e-8, atol=1e-8)


def test_the_step_of_signed_adam_falls_at_the_milestones():
    """On a constant gradient every step has the length of the current rate."""
    path, _ = minimize(signed_adam(0.1), lambda x: 3 * x.sum(), starts(2), 800)
    lengths = (path[1:] - path[:-1]).abs()
    for begin, end, rate in ((0, 300, 0.1), (300, 500, 0.01), (500, 700, 1e-3), (700, 799, 1e-4)):
        torch.testing.assert_close(lengths[begin:end], torch.full_like(lengths[begin:end], rate), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_stack_gives_what_its_rows_give_alone(name):
    begin = starts(5)
    begin[3] *= 50
    together, losses = minimize(OPTIMIZERS[name], bowl, begin, 30)
    for row in range(5):
        alone, alone_losses = minimize(OPTIMIZERS[name], bowl, begin[row : row + 1], 30)
        torch.testing.assert_close(together[:, row], alone[:, 0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(losses[:, row], alone_losses[:, 0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_row_that_diverges_harms_no_other_and_begins_afresh(name):
    """Row 1 meets a NaN at iteration 6, is called stuck, restarts, and then moves like a new row."""
    evaluate = torch.func.vmap(torch.func.grad_and_value(bowl))
    begin, fresh, late = starts(3), starts(1, seed=9), 0
    optimizer = Adam(0.1) if name == "signed_adam" else OPTIMIZERS[name]  # no schedule, which does not begin again
    stepper, candidates, path = optimizer.begin(begin, 30), begin, []
    for iteration in range(30):
        gradients, losses = evaluate(candidates)
        if iteration == 6:
            late = 7
            losses[1], gradients[1] = torch.nan, torch.nan
        path.append(candidates)
        candidates, stuck = stepper.step(candidates, losses, gradients)
        if iteration == 6 and name == "lbfgs":
            stuck = torch.tensor([False, True, False])  # its line search would first try a shorter step
        assert stuck.tolist() == [False, iteration == 6, False]
        candidates[stuck] = fresh
        stepper.restart(stuck)
    path = torch.stack(path)
    for row, start in ((0, begin[:1]), (2, begin[2:])):
        alone, _ = minimize(optimizer, bowl, start, 30)
        torch.testing.assert_close(path[:, row], alone[:, 0], rtol=1e-10, atol=1e-10)
    again, _ = minimize(optimizer, bowl, fresh, 30 - late)
    torch.testing.assert_close(path[late:, 1], again[:, 0], rtol=1e-10, atol=1e-10)


def test_not_finite_finds_the_rows():
    losses = torch.tensor([1.0, torch.inf, 1.0, torch.nan, 0.0])
    gradients = torch.zeros(5, 3)
    gradients[2, 1], gradients[4, 2] = torch.nan, -torch.inf
    assert not_finite(losses, gradients).tolist() == [False, True, True, True, True]
