"""R-GAP: exact on networks that it can invert, honest on those that it cannot."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad
from victims import nothing_changes

from gilib import data, metrics, models
from gilib.data import Batch
from gilib.federated import Client, LocalTraining, Update, as_targets, logistic
from gilib.recursion import Reconstruction, rgap
from gilib.recursion.convolution import inward
from gilib.recursion.head import logit_roots, starts
from gilib.recursion.network import layers_of
from gilib.recursion.systems import gradient_matrix, least_squares, output, pull_back, weight_matrix

NARROW = (12, 20, 36, 36, 64, 128)


def photo(index: int, *, size: int = 16, label: int = 1) -> Batch:
    return Batch(data.load("photos", size=size).images[index : index + 1], torch.tensor([label]))


def single_logit(*, size: int = 16, **settings) -> nn.Sequential:
    return models.cnn6(size=size, **settings).double()


def share(model: nn.Module, batch: Batch, *, label: bool = True) -> Update:
    return Client(model, loss=logistic, share_labels=label).update(batch)


def psnr(found: Reconstruction, batch: Batch) -> float:
    return float(metrics.psnr(found.images.clamp(0, 1), batch.images.double()))


def test_photos_of_32_pixels_are_exact_to_rounding():
    """The bound of the project is 150 dB on eight of eight; all eight are above 240."""
    model = single_logit(size=32)
    for index in range(8):
        batch = photo(index, size=32, label=index % 2)
        found = rgap(model, share(model, batch))
        assert psnr(found, batch) > 220
        assert found.exact
        assert max(layer.residual for layer in found.layers) < 1e-11


def test_a_client_in_float32_leaks_less_because_its_gradient_is_rounded():
    """About 100 dB: the rounding of the gradient, 6e-8, grows with the condition of every layer that it passes."""
    model = models.cnn6(size=16)
    for index in range(4):
        batch = photo(index)
        found = rgap(model, share(model, batch))
        assert 75 < psnr(found, batch) < 150
        assert found.exact
        assert 1e-8 < max(layer.residual for layer in found.layers) < 1e-3


@pytest.mark.parametrize("classes", [3, 10])
def test_many_classes_need_no_label(classes):
    model = models.cnn6(classes, size=16).double()
    for index in range(3):
        batch = photo(index, label=index)
        found = rgap(model, Client(model).update(batch))
        assert psnr(found, batch) > 200
        assert found.labels.tolist() == [index]
        assert found.exact


@pytest.mark.parametrize("classes, loss", [(1, {"loss": logistic}), (2, {})])
@pytest.mark.parametrize("label", [0, 1])
def test_the_equations_find_a_binary_label_too(classes, loss, label):
    model = models.cnn6(classes, size=8, widths=(12, 24, 24, 24, 24, 24), seed=3).double()
    batch = photo(1, size=8, label=label)
    found = rgap(model, Client(model, **loss).update(batch))
    assert found.labels.tolist() == [label]
    assert psnr(found, batch) > 200


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "leaky_relu"])
def test_networks_with_biases_and_other_activations(activation):
    model = models.convnet(4, size=8, widths=(16, 48), activation=activation).double()
    batch = photo(2, size=8, label=2)
    found = rgap(model, Client(model).update(batch))
    assert psnr(found, batch) > 150
    assert found.labels.tolist() == [2]


def test_fully_connected_networks_without_biases():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 9, bias=False), nn.Tanh(), nn.Linear(9, 3, bias=False)).double()
    batch = photo(0, size=4)
    found = rgap(models.draw_weights(model, seed=1), Client(model).update(batch))
    assert psnr(found, batch) > 200


def test_an_activation_that_stands_twice_counts_twice():
    tanh = nn.Tanh()
    parts = (nn.Flatten(), nn.Linear(48, 60, bias=False), tanh, nn.Linear(60, 20), tanh, nn.Linear(20, 3))
    model = models.draw_weights(nn.Sequential(*parts), seed=1).double()
    batch = photo(0, size=4)
    assert psnr(rgap(model, Client(model).update(batch)), batch) > 200


def test_a_narrow_layer_is_reported_and_only_guessed():
    model = single_logit(widths=(12, 8, 36, 36, 64, 128))
    for index in range(3):
        batch = photo(index, label=0)
        found = rgap(model, share(model, batch))
        assert [layer.name for layer in found.layers if not layer.determined] == ["conv2"]
        assert not found.exact
        assert found.layers[-1].residual > 1e-2
        assert psnr(found, batch) < 30


def test_the_missing_numbers_of_cnn6_d():
    """By hand: even-even, even-odd and odd-odd pixels meet 20, 40 and 80 gradient equations; 20 x 20 coincide."""
    model = single_logit(size=32, widths=NARROW)
    update = share(model, photo(0, size=32, label=0))
    layers = layers_of(model, (3, 32, 32))
    steps = list(inward(layers[1:], update.gradients, starts(layers[-1], update)[0]))
    by_gradient = 12 * (20 + 2 * 40 + 64)
    by_weights = 1620 - 20 * 20
    assert steps[-1].report.rank == by_gradient + by_weights == 3468 - 280


@pytest.mark.parametrize("level, told_apart", [(0.5, False), (0.9, True)])
def test_a_scaled_image_has_the_same_gradient(level, told_apart):
    """Without biases and with one logit, x and c x are twins; the box [0, 1] decides, or nothing does."""
    model = single_logit(size=8, widths=(12, 24, 24, 24, 24, 24), seed=3)
    image = photo(1, size=8).images.double()
    image = image / image.max() * level
    logit = float(model(image).detach())
    model.linear.weight.data /= abs(logit)  # a margin of 1
    batch = Batch(image, torch.tensor([int(logit > 0)]))
    low, high = logit_roots(-1 / (1 + math.e))
    assert low == pytest.approx(1, rel=1e-9)
    found, update = rgap(model, share(model, batch)), share(model, batch)
    assert found.exact == told_apart
    assert all(layer.determined for layer in found.layers[1:])
    if told_apart:
        assert psnr(found, batch) > 150
    else:
        twin = share(model, Batch(image * high, batch.labels))
        for name, value in update.gradients.items():
            torch.testing.assert_close(twin.gradients[name], value, rtol=1e-8, atol=1e-14)


def test_the_logistic_loss_is_that_of_pytorch():
    logits = torch.linspace(-50, 50, 8, dtype=torch.float64)[:, None]
    targets = as_targets(torch.tensor([0, 1] * 4), 1)
    assert targets.shape == (8, 1)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(logistic(logits, targets), expected)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        as_targets(torch.tensor([2]), 1)


@settings(max_examples=60, deadline=None)
@given(st.floats(-30, 30).filter(lambda u: abs(u) > 1e-6 and abs(u - 1.278) > 0.01))
def test_the_roots_of_the_logit_equation(u):
    product = -u / (1 + math.exp(u))
    roots = logit_roots(product)
    assert any(math.isclose(root, u, rel_tol=1e-9) for root in roots)
    assert len(roots) == (2 if u > 0 else 1)
    for root in roots:
        assert math.isclose(-root / (1 + math.exp(root)), product, rel_tol=1e-12)


def test_below_the_smallest_product_the_turning_point_is_returned():
    [u] = logit_roots(-0.4)
    assert u == pytest.approx(1.278, abs=1e-3)
    assert -u / (1 + math.exp(u)) == pytest.approx(-0.2785, abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    size=st.tuples(st.integers(4, 7), st.integers(4, 7)),
)
def test_the_systems_are_those_of_the_layer(kernel, stride, padding, size):
    """Both matrices applied to an input give the gradient and the output that autograd gives."""
    layer_ = nn.Conv2d(2, 3, kernel, stride=stride, padding=padding, bias=False).double()
    [layer] = layers_of(nn.Sequential(layer_), (2, *size))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(layer.inputs, generator=generator, dtype=torch.float64)
    k = torch.rand(layer.outputs, generator=generator, dtype=torch.float64)

    def inner(weight, image):
        return (functional_call(layer_, {"weight": weight}, (image[None],))[0] * k).sum()

    for_weight, for_input = grad(inner, argnums=(0, 1))(layer.weight, x)
    by_matrix = (gradient_matrix(layer, k) @ x.flatten(1).T).reshape(3, kernel, kernel, 2).movedim(-1, 1)
    torch.testing.assert_close(by_matrix, for_weight)
    torch.testing.assert_close(pull_back(layer, k), for_input)
    pixels = torch.eye(size[0] * size[1], dtype=torch.float64).reshape(-1, *size)
    torch.testing.assert_close(weight_matrix(layer, pixels) @ x.flatten(), output(layer, x).flatten())


def test_least_squares_finds_the_rank_and_the_shortest_solution():
    generator = torch.Generator().manual_seed(1)
    tall = torch.rand(12, 5, generator=generator, dtype=torch.float64)
    for matrix in (tall, tall.T, torch.cat([tall, tall], dim=1)):
        right = matrix @ torch.rand(matrix.shape[1], generator=generator, dtype=torch.float64)
        x, rank, condition = least_squares(matrix, right, 1e-8)
        torch.testing.assert_close(x, torch.linalg.pinv(matrix) @ right)
        assert rank == 5
        values = torch.linalg.svdvals(matrix)[:5]
        assert condition == pytest.approx(float(values[0] / values[-1]), rel=0.1)


def test_the_weight_gradient_times_the_weights_is_the_same_in_every_layer():
    """Homogeneous layers: <∇W, W> is the logit times its derivative, whatever the layer."""
    model = single_logit()
    update = share(model, photo(3))
    products = [float((update.gradients[name] * value.detach()).sum()) for name, value in model.named_parameters()]
    assert products == pytest.approx([products[0]] * 7, rel=1e-9)


def test_nothing_changes(capfd):
    model = single_logit(size=8)
    update = share(model, photo(0, size=8))
    with nothing_changes(model, capfd):
        first, second = rgap(model, update), rgap(model, update)
    assert torch.equal(first.images, second.images)


def with_layer(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), layer, nn.Flatten(), nn.LazyLinear(2))


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2), nn.ReLU(), nn.BatchNorm2d(4), nn.GELU(), nn.LeakyReLU(0.0)])
def test_a_layer_without_an_inverse_is_named(layer):
    model = with_layer(layer).double()
    model(torch.zeros(1, 3, 8, 8).double())
    update = Client(model).update(photo(0, size=8))
    with pytest.raises(ValueError, match=rf"layer '1' \({type(layer).__name__}\) cannot be inverted"):
        rgap(model, update)


def test_other_models_and_updates_are_refused():
    model = single_logit(size=8)
    update = share(model, photo(0, size=8))
    with pytest.raises(ValueError, match=r"conv1\.weight' with 900"):
        rgap(models.lenet(size=8, activation="tanh"), update)
    with pytest.raises(ValueError, match="groups=1"):
        rgap(nn.Sequential(nn.Conv2d(3, 3, 3, groups=3)), update)
    with pytest.raises(ValueError, match="two activations"):
        rgap(nn.Sequential(nn.Conv2d(3, 3, 3), nn.Tanh(), nn.Tanh()), update)
    with pytest.raises(ValueError, match="'1' does not take"):
        rgap(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), update)
    with pytest.raises(ValueError, match="at least one convolution"):
        rgap(nn.Sequential(nn.Flatten()), update)
    broken = update.gradients | {"conv3.weight": update.gradients["conv3.weight"] * math.nan}
    with pytest.raises(ValueError, match=r"'conv3\.weight' holds NaN"):
        rgap(model, replace(update, gradients=broken))
    several = Client(model, loss=logistic, local=LocalTraining(steps=2)).update(photo(0, size=8))
    with pytest.raises(ValueError, match=r"one image after one local step.*steps=2"):
        rgap(model, several)
    with pytest.raises(ValueError, match=r"zero.*gilib\.federated\.logistic"):
        rgap(model, Client(model).update(photo(0, size=8)))
