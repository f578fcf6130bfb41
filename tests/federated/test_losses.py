"""Losses: which form their derivative has, and what targets they take."""

import math

import pytest
import torch
from torch import nn

from gilib.federated import as_targets, classes_of, cross_entropy, error_form, error_scale, logistic, probabilities


@pytest.mark.parametrize(
    "loss, scale",
    [
        (cross_entropy, 0.25),
        (nn.CrossEntropyLoss(), 0.25),
        (nn.CrossEntropyLoss(reduction="sum"), 1.0),
        (lambda z, y: 0.5 * cross_entropy(z, y), 0.125),
        (lambda z, y: cross_entropy(z.log_softmax(1), y), 0.25),
    ],
)
def test_what_a_cross_entropy_multiplies_the_errors_by(loss, scale):
    assert error_scale(loss, 5, samples=4) == pytest.approx(scale, rel=1e-9)
    assert error_scale(loss, 5, samples=4, like=torch.zeros(1)) == pytest.approx(scale, rel=1e-5)


def test_one_logit_has_the_errors_of_a_logistic_function():
    for loss in (logistic, nn.BCEWithLogitsLoss()):
        assert error_scale(loss, 1, samples=2) == pytest.approx(0.5, rel=1e-9)
    assert error_scale(cross_entropy, 1) is None  # its gradient is zero


@pytest.mark.parametrize(
    "loss",
    [
        nn.MSELoss(),
        nn.BCEWithLogitsLoss(),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0], dtype=torch.float64)),
        nn.NLLLoss(),
        lambda z, y: -cross_entropy(z, y),
        lambda z, y: cross_entropy(2 * z, y),
    ],
)
def test_losses_of_another_form_have_no_scale(loss):
    assert error_scale(loss, 5, samples=2) is None


def test_smoothed_labels_are_recognised():
    form = error_form(nn.CrossEntropyLoss(label_smoothing=0.1), 5, samples=4)
    assert (form.scale, form.smoothing) == (pytest.approx(0.25), pytest.approx(0.1))
    assert error_scale(nn.CrossEntropyLoss(label_smoothing=0.1), 5) is None


def test_predictions_and_labels_of_one_logit_and_of_several():
    assert probabilities(torch.tensor([[0.0]])).item() == 0.5
    torch.testing.assert_close(probabilities(torch.tensor([[0.0, math.log(3)]])), torch.tensor([[0.25, 0.75]]))
    assert classes_of(torch.tensor([[0.4], [0.6]])).tolist() == [0, 1]
    assert classes_of(torch.tensor([[0.4, 0.6], [0.7, 0.3]])).tolist() == [1, 0]


def test_targets_with_another_number_of_columns_are_refused():
    with pytest.raises(ValueError, match=r"expected targets of shape \(2, 3\).* got \(2, 4\)"):
        as_targets(torch.ones(2, 4), 3)
