"""Gradient matching: zero at the truth for every client, the closed forms, and what a loss scale does."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from victims import random_batch, small_convnet, small_lenet

from gilib.federated import Client, LocalTraining, cross_entropy
from gilib.iteration.labels import joint, known
from gilib.iteration.matching import cosine, gaussian_kernel, l1, squared_l2, tag, wasserstein, weighted
from gilib.iteration.objective import Problem, Rows
from gilib.iteration.stack import evaluator

MATCHINGS = {"squared_l2": squared_l2(), "cosine": cosine()}
OTHERS = {"l1": l1(), "tag": tag(), "gaussian_kernel": gaussian_kernel(), "wasserstein": wasserstein()}
LOCALS = {
    "one step": LocalTraining(),
    "several steps": LocalTraining(steps=3, learning_rate=0.2),
    "local batches": LocalTraining(steps=3, learning_rate=0.2, batch_size=2),
}


def gradients(seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"weight": (3, 4), "bias": (3,)}
    return {name: scale * torch.randn(shape, generator=generator).double() for name, shape in shapes.items()}


def flat(values: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in values.values()])


def objective_at_the_truth(client: Client, count: int, matching) -> tuple[float, float, float]:
    """The objective and its gradient's norm at the true images, and the objective a little away from them."""
    batch = random_batch(count)
    problem = Problem.of(client.model, [client.update(batch)], labels=known(), restarts=1)
    evaluate = evaluator(problem, matching=matching, priors=())
    truth = batch.images.flatten()[None]
    losses, slopes = evaluate(truth)
    elsewhere, _ = evaluate((truth - 0.3).abs())
    return float(losses), float(slopes.norm()), float(elsewhere)


@pytest.mark.parametrize("matching", (MATCHINGS | OTHERS).values(), ids=MATCHINGS | OTHERS)
@pytest.mark.parametrize("local", LOCALS.values(), ids=LOCALS)
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize(
    "model", [small_lenet(), small_convnet(), small_convnet(norm="batch")], ids=["lenet", "convnet", "norm"]
)
def test_the_objective_at_the_true_input_is_zero(model, mode, local, matching):
    client = Client(model, local=local, mode=mode, share_labels=True)
    at_truth, slope, elsewhere = objective_at_the_truth(client, 3, matching)
    if isinstance(matching, type(l1()) | type(tag())):  # absolute values have a kink at zero
        assert at_truth < 1e-10
    else:
        assert abs(at_truth) < 1e-13
        assert slope < 1e-6
    assert elsewhere > 1e-5


def test_an_attack_in_the_wrong_mode_would_not_be_zero_at_the_truth():
    """What the agreed mode of an update is for."""
    model, batch = small_convnet(norm="batch"), random_batch(3)
    update = Client(model, mode="train", share_labels=True).update(batch)
    wrong = Client(model, mode="eval", share_labels=True).update(batch)
    problem = Problem.of(model, [wrong], labels=known(), restarts=1)
    problem.gradients.update({name: Rows([value]) for name, value in update.gradients.items()})
    losses, _ = evaluator(problem, matching=squared_l2(), priors=())(batch.images.flatten()[None])
    assert losses > 1e-3


def test_the_objective_is_zero_at_true_images_and_true_soft_labels():
    """Labels that are optimized reach one-hot only in the limit: at logits of 40 the rest is 1e-17."""
    model, batch = small_lenet(), random_batch(2)
    problem = Problem.of(model, [Client(model).update(batch)], labels=joint(), restarts=1)
    logits = 40 * torch.nn.functional.one_hot(batch.labels, 5).double()
    losses, _ = evaluator(problem, matching=squared_l2(), priors=())(
        torch.cat([batch.images.flatten(), logits.flatten()])[None]
    )
    assert float(losses) < 1e-13


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_closed_forms(scale, seed):
    one, other = gradients(seed), gradients(seed + 1, scale)
    difference = flat(one) - flat(other)
    assert float(squared_l2()(one, other)) == pytest.approx(float(difference @ difference))
    angle = torch.nn.functional.cosine_similarity(flat(one), flat(other), dim=0)
    assert float(cosine()(one, other)) == pytest.approx(1 - float(angle), abs=1e-12)
    assert float(squared_l2()(one, one)) == 0
    assert abs(float(cosine()(one, one))) < 1e-12


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(1e-4, 1e4), seed=st.integers(0, 1000))
def test_cosine_does_not_change_with_the_scale_of_the_loss_and_squared_l2_does(scale, seed):
    model, batch = small_lenet(), random_batch(2, seed=seed)
    losses = {}
    for name, factor in (("plain", 1.0), ("scaled", scale)):
        client = Client(model, loss=lambda z, y, f=factor: f * cross_entropy(z, y), share_labels=True)
        problem = Problem.of(model, [client.update(batch)], labels=known(), restarts=1)
        candidate = random_batch(2, seed=seed + 1).images.flatten()[None]
        for matching in MATCHINGS:
            losses[name, matching] = float(evaluator(problem, matching=MATCHINGS[matching], priors=())(candidate)[0])
    assert losses["scaled", "cosine"] == pytest.approx(losses["plain", "cosine"], rel=1e-7)
    assert losses["scaled", "squared_l2"] == pytest.approx(scale**2 * losses["plain", "squared_l2"], rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-4, 1e4))
def test_cosine_between_opposite_and_orthogonal_gradients(scale):
    one = gradients(0)
    assert float(cosine()(one, {name: -scale * value for name, value in one.items()})) == pytest.approx(2)
    left = {"a": torch.tensor([1.0, 0.0]).double(), "b": torch.tensor([0.0]).double()}
    right = {"a": torch.tensor([0.0, scale]).double(), "b": torch.tensor([3.0]).double()}
    assert float(cosine()(left, right)) == pytest.approx(1)


@pytest.mark.parametrize("scale", [0.0, 1e-23])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_vanishing_candidate_is_at_distance_one_with_a_finite_slope(scale, dtype):
    shared = {"weight": torch.tensor([3.0, 4.0], dtype=dtype)}
    scale = scale if dtype == torch.float32 else scale**7  # below the smallest normal number of either
    candidate = torch.tensor([4.0 * scale, -3.0 * scale], dtype=dtype, requires_grad=True)
    distance = cosine()({"weight": candidate}, shared)
    assert distance.item() == 1
    [slope] = torch.autograd.grad(distance, candidate)
    assert slope.isfinite().all()


def test_cosine_is_one_over_all_layers_rather_than_a_mean_of_layers():
    one = {"a": torch.tensor([10.0]), "b": torch.tensor([0.1])}
    other = {"a": torch.tensor([10.0]), "b": torch.tensor([-0.1])}
    assert float(cosine()(one, other)) == pytest.approx(2 * 0.01 / 100.01, rel=1e-2)


def test_the_vmapped_objective_is_plain_double_backward():
    model, batch = small_convnet(activation="sigmoid"), random_batch(2)
    update = Client(model, share_labels=True).update(batch)
    candidate = random_batch(2, seed=5).images.requires_grad_()
    loss = torch.nn.functional.cross_entropy(model.eval()(candidate), batch.labels)
    guess = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    value = sum((g - s).square().sum() for g, s in zip(guess, update.gradients.values(), strict=True))
    [slope] = torch.autograd.grad(value, [candidate])
    problem = Problem.of(model, [update, update], labels=known(), restarts=2)
    losses, slopes = evaluator(problem, matching=squared_l2(), priors=())(candidate.detach().flatten().expand(4, -1))
    torch.testing.assert_close(losses, value.detach().expand(4))
    torch.testing.assert_close(slopes, slope.flatten().expand(4, -1))
    assert not math.isnan(float(losses.sum()))


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(1e-2, 1e2), seed=st.integers(0, 1000), alpha=st.floats(0, 10))
def test_closed_forms_of_the_other_distances(scale, seed, alpha):
    one, other = gradients(seed, scale), gradients(seed + 1, scale)
    absolute = {name: float((one[name] - other[name]).abs().sum()) for name in one}
    squares = {name: float((one[name] - other[name]).square().sum()) for name in one}
    assert float(l1()(one, other)) == pytest.approx(sum(absolute.values()))
    expected = sum(squares.values()) + alpha * (absolute["weight"] + 0.5 * absolute["bias"])
    assert float(tag(alpha)(one, other)) == pytest.approx(expected)
    kernel = {name: 1 - math.exp(-squares[name] / float(other[name].square().sum())) for name in one}
    assert float(gaussian_kernel()(one, other)) == pytest.approx(kernel["weight"] + 0.5 * kernel["bias"])


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3))
def test_a_gaussian_kernel_does_not_change_with_the_scale_of_the_loss_and_is_bounded(scale):
    one, other = gradients(0), gradients(1)
    grown = [{name: scale * value for name, value in side.items()} for side in (one, other)]
    assert float(gaussian_kernel()(*grown)) == pytest.approx(float(gaussian_kernel()(one, other)), rel=1e-9)
    assert float(gaussian_kernel()(grown[0], other)) <= 1.5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_wasserstein_forgets_positions_and_is_no_more_than_squared_l2(seed):
    one, other = gradients(seed), gradients(seed + 1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    shuffled = {"weight": one["weight"].flatten()[order].reshape(3, 4), "bias": one["bias"]}
    assert float(wasserstein()(shuffled, one)) == 0
    assert float(wasserstein()(one, other)) <= float(squared_l2()(one, other)) + 1e-12


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0, 10), seed=st.integers(0, 1000))
def test_layer_weights_scale_both_sides(factor, seed):
    one, other = gradients(seed), gradients(seed + 1)
    plain = {name: float(squared_l2()({name: one[name]}, {name: other[name]})) for name in one}
    value = float(weighted(squared_l2(), {"bias": factor})(one, other))
    assert value == pytest.approx(plain["weight"] + factor**2 * plain["bias"])
    assert float(weighted(cosine(), {"weight": 2, "bias": 2})(one, other)) == pytest.approx(float(cosine()(one, other)))


def test_what_a_matching_refuses():
    with pytest.raises(ValueError, match=r"weights for \['head'\].*parameters are \['weight', 'bias'\]"):
        weighted(l1(), {"head": 2.0})(gradients(0), gradients(1))
    with pytest.raises(ValueError, match="positive width; got 0"):
        gaussian_kernel(0)
