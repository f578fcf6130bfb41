"""Where the search starts: distributions, shapes, precision, and what is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gilib.federated import seeded_generator
from gilib.iteration.initialization import COLOURS, constant, normal, patches, proxy, uniform

SHAPE = (2, 3, 64, 64)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=20, deadline=None)
@given(mean=st.floats(-2, 2), std=st.floats(0.01, 3), seed=st.integers(0, 1000))
def test_normal_has_its_mean_and_its_standard_deviation(mean, std, seed):
    drawn = normal(mean, std)(SHAPE, seeded_generator(seed))
    assert abs(drawn.mean() - mean) < 5 * std / math.sqrt(drawn.numel())
    assert drawn.std().item() == pytest.approx(std, rel=0.03)


@settings(max_examples=20, deadline=None)
@given(low=st.floats(-2, 0.4), width=st.floats(0.01, 3), seed=st.integers(0, 1000))
def test_uniform_fills_its_range(low, width, seed):
    drawn = uniform(low, low + width)(SHAPE, seeded_generator(seed))
    assert drawn.min() >= low - 1e-12
    assert drawn.max() <= low + width + 1e-12
    assert (drawn - low).max() > 0.999 * width
    assert drawn.mean().item() == pytest.approx(low + width / 2, abs=0.02 * width)


def test_constant_is_one_colour():
    assert torch.equal(constant(0.25)(SHAPE, seeded_generator(0)), torch.full(SHAPE, 0.25, dtype=torch.float64))
    colour = constant((0.1, 0.2, 0.3))((2, 3, 4, 4), seeded_generator(0))
    for channel, value in enumerate((0.1, 0.2, 0.3)):
        assert (colour[:, channel] == value).all()
    colour[0, 0, 0, 0] = 1.0  # memory of its own, not one number seen many times
    assert colour[0, 0, 0, 1] == 0.1


def test_constant_refuses_the_wrong_number_of_channels():
    with pytest.raises(ValueError, match="2 channel values for images with 3 channels"):
        constant((0.1, 0.2))(SHAPE, seeded_generator(0))


@pytest.mark.parametrize("make", [normal, uniform, constant, patches])
@settings(max_examples=15, deadline=None)
@given(shape=shapes, seed=st.integers(0, 1000))
def test_draws_come_from_the_generator_alone_in_float64(make, shape, seed):
    before = torch.get_rng_state()
    drawn = make()(shape, seeded_generator(seed))
    assert drawn.shape == shape
    assert drawn.dtype == torch.float64
    assert torch.equal(drawn, make()(shape, seeded_generator(seed)))
    assert torch.equal(torch.get_rng_state(), before)


def test_different_seeds_give_different_starts():
    for make in (normal, uniform):
        assert not torch.equal(make()(SHAPE, seeded_generator(0)), make()(SHAPE, seeded_generator(1)))


def test_initializations_describe_themselves():
    assert repr(normal(0.5, 0.1)) == "Normal(mean=0.5, std=0.1)"
    assert normal() == normal(0.0, 1.0)


@pytest.mark.parametrize("name, value", COLOURS.items())
def test_colours_have_names(name, value):
    drawn = constant(name)((1, 3, 2, 2), seeded_generator(0))
    expected = torch.as_tensor(value, dtype=torch.float64).expand(3)
    assert torch.equal(drawn[0, :, 0, 0], expected)


def test_an_unknown_colour_lists_the_known_ones():
    with pytest.raises(ValueError, match="red, green, blue, dark, light; got 'pink'"):
        constant("pink")


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 7), height=st.integers(1, 12), width=st.integers(1, 12), seed=st.integers(0, 100))
def test_patches_repeat_in_both_directions(size, height, width, seed):
    drawn = patches(size)((2, 3, height, width), seeded_generator(seed))
    assert torch.equal(drawn[..., size:, :], drawn[..., : max(height - size, 0), :])
    assert torch.equal(drawn[..., size:], drawn[..., : max(width - size, 0)])
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert not torch.equal(drawn[0], drawn[1])


def test_proxies_are_images_of_the_attacker():
    images = torch.rand(5, 3, 4, 4, generator=seeded_generator(1))
    drawn = proxy(images)((40, 3, 4, 4), seeded_generator(0))
    assert drawn.dtype == torch.float64
    which = [next(i for i, image in enumerate(images) if torch.equal(image.double(), one)) for one in drawn]
    assert set(which) == set(range(5))


def test_bad_starts_are_refused():
    with pytest.raises(ValueError, match="at least one; got shape \\(0, 3, 4, 4\\)"):
        proxy(torch.zeros(0, 3, 4, 4))
    with pytest.raises(ValueError, match=r"shape \(3, 4, 4\), the victim's are \(1, 8, 8\)"):
        proxy(torch.zeros(1, 3, 4, 4))((1, 1, 8, 8), seeded_generator(0))
    with pytest.raises(ValueError, match="at least 1 pixel; got 0"):
        patches(0)
