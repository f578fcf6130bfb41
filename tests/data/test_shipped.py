"""The data that packages ship: photographs, digits, faces, always the same and of any size."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gilib import data


@pytest.fixture(scope="module")
def photos():
    return data.load("photos")


# --- What comes with the packages ---


def test_photos_show_ten_photographs_in_turn(photos):
    assert len(photos) == 240
    assert len(photos.classes) == len(set(photos.classes)) == 10
    assert photos.labels.tolist() == list(range(10)) * 24
    assert photos.images.shape == (240, 3, 32, 32)
    assert photos.images.dtype == torch.float32


def test_photos_are_these_pixels_on_every_machine(photos):
    pixels = (photos.images * 255).round().to(torch.uint8)
    assert torch.equal(pixels.float() / 255, photos.images)
    assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16] == "f2c203a0f1b9daf2"


def test_photos_are_all_different_and_none_is_nearly_uniform(photos):
    assert len(torch.unique(photos.images.flatten(1), dim=0)) == len(photos)
    assert photos.images.flatten(1).std(1).min() > 0.05


@pytest.mark.parametrize("size", [8, 64])
def test_photos_come_in_any_size_with_the_same_content(photos, size):
    other = data.load("photos", size=size)
    assert other.images.shape == (240, 3, size, size)
    assert torch.equal(other.labels, photos.labels)
    small, large = (other.images, photos.images) if size < 32 else (photos.images, other.images)
    shrunk = torch.nn.functional.adaptive_avg_pool2d(large, small.shape[-1])
    assert (shrunk - small).abs().mean() < 0.02


def test_nothing_is_downloaded_and_the_global_state_stays(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a data set that ships with the packages opened a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not move
    for name in ("photos", "digits", "faces"):
        first, second = data.load(name), data.load(name)
        assert torch.equal(first.images, second.images)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_digits_are_sixteenths():
    digits = data.load("digits")
    assert digits.images.shape == (1797, 1, 8, 8)
    assert torch.equal((digits.images * 16).round() / 16, digits.images)
    assert digits.images.max() == 1
    assert digits.classes == tuple("0123456789")
    assert digits.labels[:10].tolist() == list(range(10))


def test_faces_come_first():
    faces = data.load("faces")
    assert faces.images.shape == (200, 1, 25, 25)
    assert faces.labels.tolist() == [0] * 100 + [1] * 100
    assert faces.classes == ("face", "not a face")
    # Faces look alike: their mean explains more of them than the mean of the other patches explains of those.
    spread = [group.var(0).mean() for group in (faces.images[:100], faces.images[100:])]
    assert spread[0] < 0.8 * spread[1]


@settings(max_examples=8, deadline=None)
@given(size=st.integers(4, 40))
def test_resized_digits_stay_in_range_and_keep_their_brightness(size):
    original, resized = data.load("digits"), data.load("digits", size=size)
    assert resized.images.shape[-2:] == (size, size)
    assert (resized.images.mean() - original.images.mean()).abs() < 0.02
    levels = 16 if size == 8 else 255
    assert (resized.images * levels - (resized.images * levels).round()).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["photo", "CIFAR10", ""])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(ValueError, match='"photos", "digits", "faces", "cifar10", "cifar100", "mnist"'):
        data.load(name)


def test_a_path_that_is_not_there_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of images"):
        data.load(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [0, -3, 1.5, "32"])
def test_a_bad_size_is_refused(size):
    with pytest.raises(ValueError, match="size as a whole number"):
        data.load("photos", size=size)
