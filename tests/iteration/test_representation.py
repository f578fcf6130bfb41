"""What is searched: pixels, codes and weights stand for the images they should, and attacks can go on from them."""

import pytest
import torch
from torch import nn
from victims import fingerprint, random_batch, shared_updates, small_attack, small_lenet

from gilib.iteration.optimizers import adam
from gilib.iteration.representation import latent, pixels, weights

SHAPE = (2, 3, 8, 8)


def generator(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 192), nn.Sigmoid(), nn.Unflatten(1, (3, 8, 8))).double()


def test_pixels_are_the_images():
    images = random_batch(2).images
    vector = pixels().start(images, torch.Generator())
    assert torch.equal(pixels().images(vector, SHAPE), images)


def test_codes_are_decoded_and_weights_go_on_from_them():
    network = generator()
    codes = latent(network, 5).start(torch.zeros(SHAPE), torch.Generator().manual_seed(3))
    expected = network(codes.reshape(2, 5))
    torch.testing.assert_close(latent(network, 5).images(codes, SHAPE), expected)
    whole = weights(network, 5).resume(codes)
    assert len(whole) == 10 + sum(parameter.numel() for parameter in network.parameters())
    torch.testing.assert_close(weights(network, 5).images(whole, SHAPE), expected)


def test_in_the_second_stage_only_weights_move():
    network, whole = generator(), None
    representation = weights(network, 5)
    whole = representation.start(torch.zeros(SHAPE), torch.Generator())
    slope = torch.func.grad(lambda vector: representation.images(vector, SHAPE).square().sum())(whole)
    assert (slope[:10] == 0).all()
    assert slope[10:].abs().max() > 0


def test_the_generator_is_copied():
    network = generator()
    representation = latent(network, 5)
    codes = representation.start(torch.zeros(SHAPE), torch.Generator())
    before = representation.images(codes, SHAPE)
    network[0].weight.data.zero_()
    assert torch.equal(representation.images(codes, SHAPE), before)


def test_a_generator_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"draws images of shape \(1, 3, 8, 8\), the victim's are \(1, 1, 8, 8\)"):
        latent(generator(), 5).images(torch.zeros(5, dtype=torch.float64), (1, 1, 8, 8))


def test_attacks_through_a_generator_lower_their_objective_and_leave_it_alone():
    model, network = small_lenet(), generator()
    before = fingerprint(network)
    updates = shared_updates(model, 2)
    codes = small_attack(representation=latent(network, 5), iterations=60, optimizer=adam(0.1))
    first = codes.reconstruct_many(model, updates)
    tuned = small_attack(representation=weights(network, 5), iterations=60, optimizer=adam(0.01))
    second = tuned.reconstruct_many(model, updates, after=first)
    for early, late in zip(first, second, strict=True):
        assert early.losses.min() < 0.9 * early.losses[0]
        assert late.losses[0] == pytest.approx(float(early.losses.min()))
        assert late.losses.min() < 0.5 * early.losses.min()
        torch.testing.assert_close(late.candidate[:5], early.candidate)
    assert fingerprint(network) == before


def test_going_on_needs_one_reconstruction_for_each_victim():
    updates = shared_updates(small_lenet(), 2)
    first = small_attack().reconstruct_many(small_lenet(), updates)
    with pytest.raises(ValueError, match="one earlier reconstruction for each of 2 victims; got 1"):
        small_attack(restarts=2).reconstruct_many(small_lenet(), updates, after=first[:1])


def test_going_on_from_pixels_starts_where_the_other_attack_ended():
    model = small_lenet()
    updates = shared_updates(model, 2)
    first = small_attack().reconstruct_many(model, updates)
    second = small_attack().reconstruct_many(model, updates, after=first)
    for early, late in zip(first, second, strict=True):
        assert late.losses[0] == pytest.approx(float(early.losses.min()))
