"""The metrics against their formulas, an independent SSIM, and the orders a batch can come back in."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torch import nn

from gilib import metrics

METRICS = [metrics.mse, metrics.psnr, metrics.ssim]


def images(count: int, *, seed: int = 0, channels: int = 3, size: int = 16, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, size, size, generator=generator, dtype=torch.float64).to(dtype)


@settings(max_examples=25, deadline=None)
@given(difference=st.floats(0.001, 1.0), count=st.integers(1, 4))
def test_a_constant_difference_gives_the_closed_form(difference, count):
    truth = torch.zeros(count, 3, 4, 4, dtype=torch.float64)
    assert metrics.mse(truth + difference, truth).tolist() == pytest.approx([difference**2] * count)
    assert metrics.psnr(truth + difference, truth).tolist() == pytest.approx([-20 * math.log10(difference)] * count)


def test_each_image_has_its_own_value():
    truth = torch.zeros(3, 1, 4, 4)
    recon = torch.stack([torch.full((1, 4, 4), value) for value in (0.1, 0.5, 1.0)])
    assert metrics.mse(recon, truth).tolist() == pytest.approx([0.01, 0.25, 1.0])
    assert metrics.psnr(recon, truth).tolist() == pytest.approx([20.0, 6.0206, 0.0], abs=1e-4)


def test_equal_images_are_perfect():
    truth = images(2)
    assert metrics.mse(truth, truth).tolist() == [0.0, 0.0]
    assert metrics.psnr(truth, truth).tolist() == [math.inf, math.inf]
    assert metrics.ssim(truth, truth).tolist() == pytest.approx([1.0, 1.0])


def test_float32_and_float64_agree_and_small_errors_survive():
    truth = images(2, dtype=torch.float32)
    almost = (truth.double() - 1e-9).clamp(0, 1)
    assert metrics.psnr(almost, truth).tolist() == pytest.approx([180.0, 180.0], abs=0.1)
    assert metrics.mse(truth, truth).dtype == torch.float64


@pytest.mark.parametrize("size", [11, 32])
def test_ssim_agrees_with_scikit_image_away_from_the_border(size):
    """Ours averages over reflected borders too, so a wide constant frame makes the border immaterial."""
    truth, recon = (np.full((1, 64, 64), 0.5) for _ in range(2))
    patch = images(2, channels=1, size=size, seed=3).numpy()
    start = (64 - size) // 2
    truth[0, start : start + size, start : start + size] = patch[0, 0]
    recon[0, start : start + size, start : start + size] = 0.7 * patch[0, 0] + 0.3 * patch[1, 0]
    _, full = structural_similarity(
        truth[0], recon[0], data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    ours = metrics.ssim(torch.tensor(recon)[None], torch.tensor(truth)[None])
    assert ours.item() == pytest.approx(full.mean(), abs=1e-6)


@pytest.mark.parametrize("size", [3, 4, 8, 10, 11, 25])
def test_ssim_of_flat_images_has_a_closed_form_at_every_size(size):
    dark, light = torch.full((1, 1, size, size), 0.2), torch.full((1, 1, size, size), 0.6)
    expected = (2 * 0.2 * 0.6 + 0.01**2) / (0.2**2 + 0.6**2 + 0.01**2)
    assert metrics.ssim(dark, light).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size", [8, 16])
def test_ssim_falls_with_noise_and_is_symmetric(size):
    truth = images(1, size=size)
    noise = images(1, size=size, seed=1)
    values = [metrics.ssim((1 - share) * truth + share * noise, truth).item() for share in (0.0, 0.1, 0.3, 0.6, 1.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 0.5
    for metric in METRICS:
        assert torch.allclose(metric(truth, noise), metric(noise, truth))


def test_ssim_sees_structure_that_mse_does_not():
    """A brighter copy and a noisy copy at the same MSE: the reason to report both."""
    truth = images(1, size=32) * 0.6 + 0.2
    sign = (images(1, size=32, seed=9) > 0.5).double() * 2 - 1
    brighter, noisy = truth + 0.1, truth + 0.1 * sign
    assert metrics.mse(brighter, truth).item() == pytest.approx(metrics.mse(noisy, truth).item())
    assert metrics.ssim(brighter, truth) > metrics.ssim(noisy, truth)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(6)), seed=st.integers(0, 99))
def test_matched_metrics_do_not_depend_on_the_order_of_the_batch(order, seed):
    truth = images(6, seed=seed)
    recon = (0.8 * truth + 0.2 * images(6, seed=seed + 1000)).clamp(0, 1)
    shuffled = recon[list(order)]
    aligned = shuffled[metrics.match(shuffled, truth)]
    for metric in METRICS:
        assert torch.equal(metric(aligned, truth), metric(recon, truth))


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(5)))
def test_match_undoes_a_permutation_and_is_one(order):
    truth = images(5)
    permutation = metrics.match(truth[list(order)], truth)
    assert permutation.dtype == torch.int64
    assert sorted(permutation.tolist()) == list(range(5))
    assert [order[index] for index in permutation] == list(range(5))


def test_match_minimizes_the_total_where_the_nearest_neighbour_is_taken_twice():
    truth = torch.tensor([0.5, 0.6]).reshape(2, 1, 1, 1)
    recon = torch.tensor([0.55, 0.0]).reshape(2, 1, 1, 1)
    # Both true images are nearest to recon 0; the best pairing gives it to the second, which is farther from recon 1.
    assert metrics.match(recon, truth).tolist() == [1, 0]


BAD = [
    (torch.full((1, 1, 4, 4), 1.2), r"\[0, 1\].*1\.2.*clamp"),
    (torch.full((1, 1, 4, 4), -0.1), r"\[0, 1\].*-0\.1.*clamp"),
    (torch.full((1, 1, 4, 4), math.nan), "NaN"),
    (torch.zeros(1, 4, 4), r"\(B, C, H, W\).*\(1, 4, 4\).*images\[None\]"),
    (torch.zeros(0, 1, 4, 4), r"\(0, 1, 4, 4\)"),
    (torch.zeros(1, 1, 4, 4, dtype=torch.uint8), r"uint8.*255"),
    (np.zeros((1, 1, 4, 4)), "ndarray"),
    (torch.zeros(2, 1, 4, 4), r"one shape.*\(2, 1, 4, 4\)|one shape.*\(1, 1, 4, 4\)"),
]


@pytest.mark.parametrize("metric", [*METRICS, metrics.match])
@pytest.mark.parametrize("bad, message", BAD)
def test_bad_input_is_refused_on_either_side(metric, bad, message):
    good = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match=message):
        metric(bad, good)
    with pytest.raises(ValueError, match=message):
        metric(good, bad)


def test_ssim_refuses_images_without_a_window():
    with pytest.raises(ValueError, match=r"3 x 3.*2 x 8"):
        metrics.ssim(torch.zeros(1, 1, 2, 8), torch.zeros(1, 1, 2, 8))


def test_metrics_leave_no_trace_on_their_input():
    recon = images(2).requires_grad_()
    before = recon.detach().clone()
    value = metrics.psnr(recon, images(2, seed=1))
    assert not value.requires_grad
    assert torch.equal(recon.detach(), before)


def test_an_image_is_named_when_no_other_candidate_is_as_near():
    candidates = images(20)
    own = torch.tensor([3, 7, 11])
    assert metrics.named(candidates[own], candidates, own).tolist() == [True, True, True]
    assert metrics.named(candidates[own], candidates, own.flip(0)).tolist() == [False, True, False]
    noise = torch.randn(candidates[own].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = (candidates[own] + 0.3 * noise).clamp(0, 1)
    assert metrics.psnr(noisy, candidates[own]).max() < 13
    assert metrics.named(noisy, candidates, own).all()


def test_grey_names_as_often_as_a_guess_and_twins_are_not_told_apart():
    candidates = images(50)
    grey = torch.full_like(candidates, 0.5)
    assert metrics.named(grey, candidates, torch.arange(50)).sum() == 1
    twins = torch.cat([candidates, candidates[:1]])
    assert metrics.named(candidates[:2], twins, torch.arange(2)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("candidates", "own", "words"),
    [
        (images(3, size=8), torch.tensor([0, 1]), "images of one size"),
        (images(1), torch.tensor([0, 0]), "at least 2 candidates"),
        (images(3), torch.tensor([0]), "own as 2 whole numbers"),
        (images(3), torch.tensor([0.0, 1.0]), "own as 2 whole numbers"),
        (images(3), torch.tensor([0, 3]), "0 to 2"),
        (images(3), torch.tensor([-1, 0]), "0 to 2"),
    ],
)
def test_candidates_that_do_not_fit_are_refused(candidates, own, words):
    with pytest.raises(ValueError, match=words):
        metrics.named(images(2), candidates, own)


def test_a_classifier_reads_what_it_reads():
    bright = torch.stack([torch.full((1, 4, 4), value) for value in (0.1, 0.9, 0.6)])

    def classifier(stack):
        mean = stack.mean(dim=(1, 2, 3))
        return torch.stack([1 - mean, mean], dim=1)

    assert metrics.read(bright, torch.tensor([0, 1, 0]), classifier).tolist() == [True, True, False]
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))  # float32, and the images below are not
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([-torch.ones(16), torch.ones(16)]))
        model[1].bias.copy_(torch.tensor([8.0, -8.0]))
    assert metrics.read(bright.double(), torch.tensor([0, 1, 0]), model).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="must return logits"):
        metrics.read(bright, torch.tensor([0, 1, 0]), lambda stack: stack)
    with pytest.raises(ValueError, match="does not take images"):
        metrics.read(images(2), torch.tensor([0, 1]), model)
    with pytest.raises(ValueError, match="one label for each of 3 images"):
        metrics.read(bright, torch.tensor([0, 1]), classifier)


def test_labels_are_read_as_often_as_they_occur_in_both():
    true = torch.tensor([1, 2, 2, 4])
    assert metrics.labels_read(torch.tensor([1, 1, 2, 3]), true) == 0.5
    assert metrics.labels_read(torch.tensor([2, 4, 2, 1]), true) == 1.0
    assert metrics.labels_read(torch.tensor([2, 2, 2, 2, 2]), true) == 0.5
    assert metrics.labels_read(torch.tensor([9]), true) == 0.0
