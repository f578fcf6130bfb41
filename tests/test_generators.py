"""The small generators: shapes, seeds, and that training makes them draw what they were trained on."""

import pytest
import torch
from victims import fingerprint

from gilib import data, metrics
from gilib.generators import decoder, train_decoder

DIGITS = data.load("digits")


@pytest.mark.parametrize("channels, size", [(1, 8), (3, 16), (2, 4)])
def test_a_decoder_draws_images(channels, size):
    images = decoder(5, channels=channels, size=size, width=4)(torch.randn(3, 5))
    assert images.shape == (3, channels, size, size)
    assert 0 <= images.min() <= images.max() <= 1


def test_a_size_that_cannot_be_doubled_twice_is_refused():
    with pytest.raises(ValueError, match="multiple of 4, got 10"):
        decoder(size=10)


def test_building_and_training_leave_the_global_random_state_and_the_network_alone():
    before = torch.get_rng_state()
    network = decoder(4, width=4)
    weights = fingerprint(network)
    one, other = (train_decoder(network, DIGITS.images[:64], latent=4, steps=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert fingerprint(network) == weights
    assert fingerprint(one) == fingerprint(other) != weights
    assert all(value.dtype == torch.float64 and not value.requires_grad for value in one.parameters())


def test_a_trained_decoder_has_a_code_for_held_out_digits_and_not_for_noise():
    network = train_decoder(decoder(16), DIGITS.images[:1500], latent=16, steps=400)

    def closest(images: torch.Tensor) -> torch.Tensor:
        codes = torch.zeros(len(images), 16, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([codes], lr=0.1)
        for _ in range(150):
            optimizer.zero_grad()
            (network(codes) - images).square().sum().backward()
            optimizer.step()
        return metrics.psnr(network(codes).detach(), images)

    noise = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert closest(DIGITS.images[1500:1516]).median() > closest(noise).median() + 5
