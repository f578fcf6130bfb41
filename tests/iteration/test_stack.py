"""How a stack is evaluated: together, in chunks or one by one, always with the same result."""

import dataclasses

import pytest
import torch
from torch import nn
from victims import random_batch, shared_updates, small_attack, small_convnet, small_lenet

from gilib import models
from gilib.federated import Client, LocalTraining
from gilib.iteration import stack
from gilib.iteration.labels import joint, known
from gilib.iteration.matching import cosine
from gilib.iteration.objective import Problem
from gilib.iteration.priors import feature_fit, total_variation


def evaluated(problem: Problem, rows: int, monkeypatch, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and gradients at random candidates, ``rows`` of them together."""
    monkeypatch.setattr(stack, "chunk", lambda problem: rows)
    priors = (total_variation(0.1), feature_fit(0.1))
    evaluate = stack.evaluator(problem, matching=cosine(), priors=priors, **options)
    generator = torch.Generator().manual_seed(0)
    candidates = torch.rand(problem.rows, problem.length, generator=generator, dtype=torch.float64)
    found = evaluate(candidates)
    assert evaluate.rows == rows
    return found


@pytest.mark.parametrize("labels", [known(), joint()], ids=["known", "joint"])
@pytest.mark.parametrize(
    "local",
    [LocalTraining(), LocalTraining(steps=2, momentum=0.9), LocalTraining(optimizer="adam"), LocalTraining(clip=0.1)],
    ids=["one step", "momentum", "adam", "clipped"],
)
def test_rows_together_in_chunks_and_one_by_one_agree(labels, local, monkeypatch):
    model = small_convnet(norm="batch", activation="softplus")
    problem = Problem.of(model, shared_updates(model, 3, local=local), labels=labels, restarts=1)
    losses, gradients = evaluated(problem, 3, monkeypatch)
    assert losses.shape == (3,)
    for rows in (2, 1):
        others = evaluated(problem, rows, monkeypatch)
        torch.testing.assert_close(others[0], losses, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(others[1], gradients, rtol=1e-7, atol=1e-10)
    values, nothing = evaluated(problem, 1, monkeypatch, slopes=False)
    torch.testing.assert_close(values, losses, rtol=1e-9, atol=1e-12)
    assert not nothing.any()


def test_the_numbers_decide():
    small, large = small_lenet(), models.mlp(5, size=8, hidden=(4000,)).double()
    for model, victims, rows in ((small, 1, 1), (small, 3, 3), (large, 3, 1)):
        problem = Problem.of(model, shared_updates(model, 1) * victims, labels=known(), restarts=1)
        assert stack.chunk(problem) == rows
    for width, rows in ((1100, 4), (1800, 1)):  # 4 fit, and where only 2 would fit a loop is as fast
        middle = models.mlp(5, size=8, hidden=(width,)).double()
        problem = Problem.of(middle, shared_updates(middle, 1) * 5, labels=known(), restarts=1)
        assert stack.chunk(problem) == rows


class Unmappable(nn.Module):
    """A forward pass that asks for a value."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.flatten(1) * (2 if images.mean() > 0.25 else 1))


def test_what_cannot_be_mapped_runs_in_a_loop():
    model = Unmappable().double()
    updates = shared_updates(model, 2)
    together = small_attack().reconstruct_many(model, updates)
    for one, update in zip(together[:1], updates[:1], strict=True):
        torch.testing.assert_close(one.losses, small_attack().reconstruct(model, update).losses)


class Slope(torch.autograd.Function):
    """What torch does in the derivative of a kernel that has no second one."""

    @staticmethod
    def forward(ctx, slope: torch.Tensor) -> torch.Tensor:
        return slope.clone()

    @staticmethod
    def backward(ctx, slope: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("derivative for aten::fused_swirl_backward is not implemented")


class Swirl(torch.autograd.Function):
    """A step with a first derivative and no second."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, slope: torch.Tensor) -> torch.Tensor:
        return Slope.apply(slope)


class Swirled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(192, 8), nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(Swirl.apply(self.body(images.flatten(1)).tanh()))


def test_what_has_no_second_derivative_is_refused_in_plain_words():
    model = Swirled().double()
    [update] = shared_updates(model, 1)  # the client has no trouble
    with pytest.raises(ValueError, match="no second derivative of fused_swirl") as refused:
        small_attack().reconstruct(model, update)
    assert not any(word in str(refused.value) for word in ("functorch", "vmap", "aten"))


def test_a_gradient_that_does_not_depend_on_the_image_is_refused():
    model = small_convnet()
    with torch.no_grad():
        model.conv1.weight.zero_()
        model.conv1.bias.fill_(-1.0)  # every ReLU is off
    [update] = shared_updates(model, 1)
    with pytest.raises(ValueError, match="does not depend on the image"):
        small_attack().reconstruct(model, update)


def test_a_gradient_of_zero_is_refused():
    model = models.lenet(1, size=8).double()
    batch = dataclasses.replace(random_batch(1), labels=torch.tensor([0]))
    update = Client(model, share_labels=True).update(batch)
    with pytest.raises(ValueError, match="update 0 is zero and says nothing"):
        small_attack().reconstruct(model, update)


def test_a_weighed_update_is_taken_for_what_it_is():
    model, batch = small_lenet(), random_batch(1)
    plain = Client(model, share_labels=True).update(batch)
    heavy = dataclasses.replace(plain, gradients={k: 3 * v for k, v in plain.gradients.items()}, weight=3.0)
    one, other = (small_attack().reconstruct(model, update).losses for update in (plain, heavy))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=0)
