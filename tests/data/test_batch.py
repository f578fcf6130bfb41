"""Batches refuse what is none, keep what they are given, and cannot be changed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gilib import data


@pytest.fixture(scope="module")
def photos():
    return data.load("photos")


# --- Batch and Dataset ---


@settings(max_examples=25, deadline=None)
@given(
    pixels=hnp.arrays(np.float64, hnp.array_shapes(min_dims=4, max_dims=4, max_side=4), elements=st.floats(0, 1)),
    label=st.integers(0, 9),
)
def test_a_batch_keeps_what_it_is_given(pixels, label):
    images, labels = torch.tensor(pixels), torch.full((len(pixels),), label)
    batch = data.Batch(images, labels)
    assert batch.images is images
    assert batch.labels is labels
    assert len(batch) == len(pixels)


IMAGES, LABELS = torch.rand(2, 3, 4, 4), torch.tensor([1, 0])
BAD_BATCHES = [
    (IMAGES + 1, LABELS, r"\[0, 1\], got values from 1.* to .*255"),
    (IMAGES - 1, LABELS, r"\[0, 1\].*clamp"),
    (IMAGES * torch.nan, LABELS, "NaN"),
    (IMAGES / 0, LABELS, "infinity"),
    (IMAGES[0], LABELS, r"\(B, C, H, W\).*got \(3, 4, 4\).*images\[None\]"),
    (IMAGES[:0, :0], LABELS[:0], r"got \(0, 0, 4, 4\)"),
    (IMAGES.to("meta"), LABELS, "meta device"),
    (IMAGES[..., :0], LABELS, r"got \(2, 3, 4, 0\)"),
    ((255 * IMAGES).byte(), LABELS, "uint8.*255"),
    (IMAGES.numpy(), LABELS, "ndarray"),
    (IMAGES, LABELS[:1], r"each of 2 images.*got \(1,\)"),
    (IMAGES, LABELS[:, None], r"got \(2, 1\)"),
    (IMAGES, LABELS.int(), r"int64.*int32.*dtype=torch.int64"),
    (IMAGES, [1, 0], "int64.*list"),
    (IMAGES, LABELS - 1, "from 0, got -1 to 0"),
]


@pytest.mark.parametrize("images, labels, message", BAD_BATCHES)
def test_bad_batches_are_refused_at_the_door(images, labels, message):
    with pytest.raises(ValueError, match=message):
        data.Batch(images, labels)
    with pytest.raises(ValueError, match=message.replace("from 0, got", "from 0 to 1, got")):
        data.Dataset(images, labels, ("a", "b"))


def test_a_batch_may_hold_nobody_and_a_dataset_may_not():
    for labels in (LABELS[:0], torch.zeros(0, 7)):
        nobody = data.Batch(IMAGES[:0], labels)
        assert len(nobody) == 0
        assert nobody.images.shape == (0, 3, 4, 4)
    with pytest.raises(ValueError, match=r"each of 0 images.*got \(2,\)"):
        data.Batch(IMAGES[:0], LABELS)
    with pytest.raises(ValueError, match=r"at least one image, got \(0, 3, 4, 4\)"):
        data.Dataset(IMAGES[:0], LABELS[:0], ("a", "b"))


@pytest.mark.parametrize(
    "targets",
    [[[0.3, 0.7], [1.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]], [[0.37], [-120.5]]],
    ids=["mixed", "several", "real"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_targets_are_any_finite_numbers_one_row_an_image(targets, dtype):
    labels = torch.tensor(targets, dtype=dtype)
    assert data.Batch(IMAGES, labels).labels is labels
    for wrong, message in (
        (labels[:1], r"\(2, K\).*got \(1,"),
        (labels[:, :0], r"got \(2, 0\)"),
        (labels / 0, "finite targets"),
        (labels.long(), r"got \(2, \d\).*floating point"),
        (labels[:, 0], r"int64 tensor.*targets\[:, None\]"),
    ):
        with pytest.raises(ValueError, match=message):
            data.Batch(IMAGES, wrong)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_probabilities_sum_to_one_within_their_own_rounding(dtype):
    thirds = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    data.check_probabilities(thirds.to(dtype))
    data.check_probabilities(thirds[:0].to(dtype))
    for wrong in (thirds * 1.05, thirds * 0.95, torch.tensor([[1.5, -0.5]]), thirds * torch.nan):
        with pytest.raises(ValueError, match=r"sum to one, got sums.*cross-entropy"):
            data.check_probabilities(wrong.to(dtype))


def test_another_default_device_changes_nothing():
    expected = {name: data.load(name, size=8) for name in ("photos", "digits", "faces")}
    with torch.device("meta"):
        for name, dataset in expected.items():
            found = data.load(name, size=8)
            assert torch.equal(found.images, dataset.images)
            assert torch.equal(found.labels, dataset.labels)
            assert torch.equal(found.batch([3, 1]).images, dataset.images[[3, 1]])
        data.Batch(IMAGES, LABELS)
        data.check_probabilities(expected["digits"].images.flatten(1).softmax(dim=1))


def test_a_dataset_refuses_labels_without_a_class():
    with pytest.raises(ValueError, match="from 0 to 1, got 0 to 2"):
        data.Dataset(IMAGES, torch.tensor([0, 2]), ("a", "b"))


def test_batch_and_dataset_cannot_be_changed():
    batch = data.Batch(IMAGES, LABELS)
    with pytest.raises(AttributeError):
        batch.images = IMAGES


def test_dataset_batch_picks_images_and_copies_them(photos):
    for indices in ([3, 0], (3, 0), torch.tensor([3, 0]), np.array([3, 0])):
        batch = photos.batch(indices)
        assert torch.equal(batch.images, photos.images[[3, 0]])
        assert batch.labels.tolist() == [3, 0]
    assert torch.equal(photos.batch(range(2)).images, photos.images[:2])
    assert photos.batch(5).images.shape == (1, 3, 32, 32)
    assert torch.equal(photos.batch(-1).images, photos.images[-1:])
    assert len(photos.batch(torch.arange(0))) == 0
    before = photos.images[0].clone()
    photos.batch([0]).images.zero_()
    assert torch.equal(photos.images[0], before)


@pytest.mark.parametrize("indices", [[240], [-241], [0, 999]])
def test_an_index_outside_says_the_range(photos, indices):
    with pytest.raises(IndexError, match="0 to 239"):
        photos.batch(indices)


@pytest.mark.parametrize("indices", [[], [0.5], [True, False], [[0, 1]], [[0], [1, 2]], "a", None])
def test_odd_indices_are_refused(photos, indices):
    with pytest.raises(ValueError, match="whole numbers"):
        photos.batch(indices)
