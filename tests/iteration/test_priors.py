"""Total variation: closed forms, symmetries, and that it enters the objective with its weight."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from victims import nothing_changes, random_batch, shared_updates, small_attack, small_convnet, small_lenet

from gilib.federated import Client
from gilib.iteration.labels import known
from gilib.iteration.matching import squared_l2
from gilib.iteration.objective import Problem
from gilib.iteration.priors import ServerView, batch_statistics, feature_fit, label_fit, squared_norm, total_variation
from gilib.iteration.stack import evaluator


@settings(max_examples=20, deadline=None)
@given(weight=st.floats(0, 10), value=st.floats(0, 1), slope=st.floats(0, 0.1))
def test_constants_and_ramps(weight, value, slope):
    flat = torch.full((2, 3, 6, 8), value, dtype=torch.float64)
    ramp = flat + slope * torch.arange(8, dtype=torch.float64)
    assert float(total_variation(weight)(flat)) == 0
    assert float(total_variation(weight)(ramp)) == pytest.approx(weight * slope, abs=1e-12)
    assert float(
        total_variation(weight)(ramp + 2 * slope * torch.arange(6, dtype=torch.float64)[:, None])
    ) == pytest.approx(weight * 3 * slope, abs=1e-12)


def test_a_checkerboard_is_as_rough_as_it_gets():
    board = (torch.arange(8)[:, None] + torch.arange(8)).remainder(2).double().expand(1, 3, 8, 8)
    assert float(total_variation(1.0)(board)) == 2
    assert float(total_variation(1.0)(random_batch(4).images)) < 2


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-0.5, 0.5))
def test_symmetries(seed, shift):
    images, prior = random_batch(2, seed=seed).images, total_variation(1.0)
    for other in (images.flip(2), images.flip(3), images.transpose(2, 3), images.flip(0), images + shift):
        assert float(prior(other)) == pytest.approx(float(prior(images)))


def test_smoothing_lowers_it():
    images = random_batch(2, size=16).images
    smooth = torch.nn.functional.avg_pool2d(images, 3, stride=1)
    assert total_variation(1.0)(smooth) < 0.5 * total_variation(1.0)(images)


def test_priors_are_added_to_the_matching_loss():
    model = small_lenet()
    [update], images = shared_updates(model, 1), random_batch(1, seed=7).images
    problem = Problem.of(model, [update], labels=known(), restarts=1)
    priors = (total_variation(0.3), total_variation(2.0))
    plain, _ = evaluator(problem, matching=squared_l2(), priors=())(images.flatten()[None])
    full, _ = evaluator(problem, matching=squared_l2(), priors=priors)(images.flatten()[None])
    assert float(full - plain) == pytest.approx(2.3 * float(total_variation(1.0)(images)))


@settings(max_examples=10, deadline=None)
@given(weight=st.floats(0, 10), seed=st.integers(0, 1000))
def test_label_fit_is_the_distance_of_the_prediction_from_the_label(weight, seed):
    model, batch = small_lenet(), random_batch(3, seed=seed)
    targets = torch.nn.functional.one_hot(batch.labels, 5).double()
    expected = weight * (model(batch.images).softmax(1) - targets).norm(dim=1).square().mean()
    found = label_fit(weight)(batch.images, targets, ServerView(model, None, [], None))
    assert found.item() == pytest.approx(expected.item())
    problem = Problem.of(model, [Client(model, share_labels=True).update(batch)], labels=known(), restarts=1)
    losses, _ = evaluator(problem, matching=squared_l2(), priors=(label_fit(weight),))(batch.images.flatten()[None])
    assert float(losses) == pytest.approx(expected.item(), abs=1e-12)


def test_squared_norm_is_the_mean_square():
    images = random_batch(2).images
    assert float(squared_norm(0.5)(images)) == pytest.approx(0.5 * float((images**2).mean()))


def objective(model, update, images, *priors) -> float:
    problem = Problem.of(model, [update], labels=known(), restarts=1, with_statistics=update.buffers is not None)
    losses, _ = evaluator(problem, matching=squared_l2(), priors=priors)(images.flatten()[None])
    return float(losses)


def test_shared_batch_statistics_are_exactly_those_of_the_batch():
    """The server solves the running average for the batch: at the true images nothing is left."""
    model, batch = small_convnet(norm="batch"), random_batch(6)
    update = Client(model, mode="train", share_labels=True, share_buffers=True).update(batch)
    prior = batch_statistics(1.0, shared=True)
    assert objective(model, update, batch.images, prior) < 1e-9
    assert objective(model, update, random_batch(6, seed=1).images, prior) > 1e-2
    assert objective(model, update, batch.images, batch_statistics(1.0)) > 1e-2


def test_running_statistics_need_only_the_model():
    model, batch = small_convnet(norm="batch"), random_batch(4)
    update = Client(model, share_labels=True).update(batch)
    plain, full = (objective(model, update, batch.images, *priors) for priors in ((), (batch_statistics(2.0),)))
    inputs = batch.images
    expected = 0.0
    for index in (1, 2):
        inputs = getattr(model, f"conv{index}")(inputs)
        norm = getattr(model, f"norm{index}")
        variance, mean = torch.var_mean(inputs, dim=(0, 2, 3))
        expected += (mean - norm.running_mean).norm() + (variance - norm.running_var).norm()
        inputs = torch.nn.functional.batch_norm(inputs, None, None, norm.weight, norm.bias, training=True)
        inputs = getattr(model, f"activation{index}")(inputs)
    assert full - plain == pytest.approx(2 * expected.item())


def test_statistics_that_nobody_shares_are_refused():
    update = Client(small_convnet(norm="batch"), share_labels=True).update(random_batch(2))
    with pytest.raises(ValueError, match=r"update does not carry them.*share_buffers=True"):
        small_attack(priors=(batch_statistics(1.0, shared=True),)).reconstruct(small_convnet(norm="batch"), update)
    update = Client(small_convnet(), share_labels=True).update(random_batch(2))
    with pytest.raises(ValueError, match="needs a model with batch normalization"):
        small_attack(priors=(batch_statistics(1.0),)).reconstruct(small_convnet(), update)


@pytest.mark.parametrize("model", [small_lenet(), small_convnet(norm="batch")], ids=["lenet", "convnet"])
def test_feature_fit_is_zero_at_the_true_image_alone_and_knows_only_the_update(model):
    batch, other = random_batch(1), random_batch(1, seed=1)
    update = Client(model, share_labels=True).update(batch)
    assert objective(model, update, batch.images, feature_fit(1.0)) < 1e-20
    plain, full = (objective(model, update, other.images, *priors) for priors in ((), (feature_fit(3.0),)))
    features = []
    handle = model.eval().linear.register_forward_pre_hook(lambda layer, inputs: features.append(inputs[0]))
    for images in (batch.images, other.images):
        model(images)
    handle.remove()
    expected = (features[1] - features[0]).square().sum() / features[0].square().sum()
    assert full - plain == pytest.approx(3 * expected.item())


def test_feature_fit_refuses_batches():
    update = Client(small_lenet(), share_labels=True).update(random_batch(2))
    with pytest.raises(ValueError, match="one sample in an update; this one has 2"):
        small_attack(priors=(feature_fit(1.0),)).reconstruct(small_lenet(), update)


@pytest.mark.parametrize("settings", [{"momentum": None}, {"track_running_stats": False}])
def test_statistics_that_cannot_be_read_off_are_refused(settings):
    model = small_convnet(norm="batch")
    model.norm2 = torch.nn.BatchNorm2d(6, **settings).double()
    update = Client(model, mode="train", share_labels=True, share_buffers=True).update(random_batch(4))
    with pytest.raises(ValueError, match="cannot be read off layer 'norm2'"):
        small_attack(priors=(batch_statistics(1.0, shared=True),)).reconstruct(model, update)


def test_priors_on_statistics_draw_nothing_even_with_dropout(capfd):
    model = small_convnet(norm="batch")
    model.linear = torch.nn.Sequential(torch.nn.Dropout(0.5), model.linear)
    update = Client(model, share_labels=True).update(random_batch(2))
    with nothing_changes(model, capfd):
        small_attack(priors=(batch_statistics(1.0),)).reconstruct(model, update)
