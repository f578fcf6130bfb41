"""Group consistency: registration, the penalty and its gradient, and that it pulls restarts together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from victims import random_batch, shared_updates, small_attack, small_lenet

from gilib.iteration.group import best_shift, group_consistency, registered_mean, shifted
from gilib.iteration.optimizers import adam
from gilib.iteration.representation import latent


@settings(max_examples=20, deadline=None)
@given(down=st.integers(-3, 3), across=st.integers(-3, 3), seed=st.integers(0, 100))
def test_a_shift_is_found_and_undone(down, across, seed):
    images = random_batch(2, size=8, seed=seed).images
    moved = torch.roll(images, (down, across), dims=(2, 3))
    steps = torch.tensor([down, down]), torch.tensor([across, across])
    assert torch.equal(shifted(images, *steps), moved)
    torch.testing.assert_close(shifted(moved, *best_shift(images, moved)), images)


def test_the_registered_mean_of_shifted_copies_is_sharp():
    image = random_batch(1, size=16).images
    copies = torch.stack([torch.roll(image, step, dims=3) for step in (0, 0, 0, 2)])[None]
    consensus = registered_mean(copies)
    torch.testing.assert_close(consensus, copies)
    assert (copies.mean(dim=1, keepdim=True) - copies).abs().max() > 0.1


@settings(max_examples=10, deadline=None)
@given(weight=st.floats(0.1, 10), register=st.booleans())
def test_the_gradient_is_that_of_the_penalty_for_a_fixed_mean(weight, register):
    vectors = torch.rand(4, 3 * 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    group = group_consistency(weight, register=register)
    losses, gradients = group(vectors, (1, 3, 8, 8), 2)
    images = vectors.reshape(2, 2, 1, 3, 8, 8)
    mean = registered_mean(images) if register else images.mean(1, keepdim=True)
    variable = images.clone().requires_grad_()
    expected = weight * (variable - mean).square().mean(dim=(2, 3, 4, 5))
    [slope] = torch.autograd.grad(expected.sum(), [variable])
    torch.testing.assert_close(losses, expected.detach().flatten())
    torch.testing.assert_close(gradients, slope.reshape(gradients.shape))


def test_the_pull_is_felt_and_stays_within_a_victim():
    model = small_lenet()
    updates = shared_updates(model, 2)
    final = []
    for group in (None, group_consistency(50.0, register=False)):
        attack = small_attack(restarts=3, iterations=40, optimizer=adam(0.02), group=group)
        ends = []
        for number in range(2):
            [found] = attack.reconstruct_many(model, [updates[number]])
            ends.append(found.images)
        both = attack.reconstruct_many(model, updates)
        torch.testing.assert_close(both[0].images, ends[0])
        final.append(float(found.losses[-1]))
    assert final[1] > final[0]  # the pull has its price in matching


def test_group_consistency_needs_restarts_and_pixels():
    with pytest.raises(ValueError, match="use pixels and restarts >= 2"):
        small_attack(group=group_consistency(1.0))
    generator = torch.nn.Sequential(torch.nn.Linear(2, 192), torch.nn.Unflatten(1, (3, 8, 8)))
    with pytest.raises(ValueError, match="use pixels and restarts >= 2"):
        small_attack(group=group_consistency(1.0), restarts=2, representation=latent(generator, 2))
