"""The networks: what they are made of, where their weights come from, and what they must leave alone."""

import hashlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, vmap

from gilib import models

BUILDERS = {"lenet": models.lenet, "mlp": models.mlp, "convnet": models.convnet, "resnet": models.resnet}


def fingerprint(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
@pytest.mark.parametrize("activation", models.ACTIVATIONS)
@pytest.mark.parametrize("channels, size", [(1, 8), (3, 32), (1, 25), (2, 1)])
def test_every_model_gives_one_logit_per_class(build, activation, channels, size):
    model = build(7, channels=channels, size=size, activation=activation)
    logits = model(torch.rand(4, channels, size, size))
    assert logits.shape == (4, 7)
    assert logits.isfinite().all()


def test_lenet_is_the_one_of_dlg():
    model = models.lenet()
    convolutions = [layer for layer in model if isinstance(layer, nn.Conv2d)]
    assert [layer.stride for layer in convolutions] == [(2, 2), (2, 2), (1, 1)]
    assert all(layer.kernel_size == (5, 5) and layer.padding == (2, 2) for layer in convolutions)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes["conv1.weight"] == (12, 3, 5, 5)
    assert shapes["linear.weight"] == (10, 768)
    assert sum(math.prod(shape) for shape in shapes.values()) == 15_826


def test_cnn6_is_the_one_of_rgap():
    model = models.cnn6()
    convolutions = [layer for layer in model if isinstance(layer, nn.Conv2d)]
    assert [layer.weight.shape[0] for layer in convolutions] == [12, 36, 36, 36, 64, 128]
    assert [layer.stride[0] for layer in convolutions] == [2, 2, 1, 1, 2, 1]
    assert [layer.kernel_size[0] for layer in convolutions] == [4, 3, 3, 3, 3, 3]
    assert all(layer.bias is None for layer in (*convolutions, model.linear))
    assert model.linear.weight.shape == (1, 3200)
    assert model.activation1.negative_slope == 0.2
    assert fingerprint(models.cnn6(seed=1)) == fingerprint(models.cnn6(seed=1)) != fingerprint(model)
    for size in (8, 13):
        narrow = models.cnn6(7, channels=1, size=size, widths=(12, 20, 36, 36, 64, 128))
        assert narrow(torch.rand(2, 1, size, size)).shape == (2, 7)


def test_convnet_halves_the_resolution_twice_without_pooling():
    model = models.convnet()
    assert model.linear.in_features == 128 * 8 * 8
    assert [layer.stride[0] for layer in model if isinstance(layer, nn.Conv2d)] == [1, 2, 1, 2]
    assert not any("Pool" in type(layer).__name__ for layer in model)


def test_resnet_is_the_one_for_small_images():
    """ResNet-20: 19 convolutions and a linear layer, 0.27 million parameters at the width of the paper."""
    model = models.resnet(width=16)
    body = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
    assert len(body) == 19
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(270_000, rel=0.02)
    assert model[:-3](torch.rand(2, 3, 32, 32)).shape == (2, 64, 8, 8)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()) == 21
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in models.resnet(norm=None).modules())


def test_a_shortcut_without_change_of_size_is_the_identity():
    model = models.resnet(width=4, norm=None).double()
    block = model.stage1_block1
    for parameter in block.body.parameters():
        parameter.data.zero_()
    features = torch.rand(2, 4, 8, 8, dtype=torch.float64)
    assert torch.equal(block(features), features)


def test_batch_norm_comes_before_every_activation_and_replaces_the_bias():
    model = models.convnet(widths=(8, 16), norm="batch")
    kinds = [type(layer).__name__ for layer in model]
    assert kinds[:3] == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds.count("BatchNorm2d") == 2
    assert not any("conv" in name and "bias" in name for name, _ in model.named_parameters())
    assert models.convnet(widths=(8,)).conv1.bias is not None


@pytest.mark.parametrize("seed", [0, 3])
def test_lenet_weights_and_biases_fill_the_interval(seed):
    weights = torch.cat([parameter.flatten() for parameter in models.lenet(seed=seed).parameters()]).detach()
    assert weights.abs().max() <= 0.5
    assert weights.min() < -0.49
    assert weights.max() > 0.49
    # A uniform draw on [-0.5, 0.5] has standard deviation 1/sqrt(12).
    assert weights.std().item() == pytest.approx(12**-0.5, rel=0.02)


@pytest.mark.parametrize("build", [models.mlp, models.convnet])
def test_default_initialization_is_that_of_pytorch(build):
    for layer in build():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        bound = 1 / math.sqrt(layer.weight[0].numel())
        assert layer.weight.abs().max() <= bound
        assert layer.weight.abs().max() > 0.98 * bound
        assert layer.bias.abs().max() <= bound
        reference = type(layer)(layer.weight.shape[1], layer.weight.shape[0], *getattr(layer, "kernel_size", ())[:1])
        assert layer.weight.std().item() == pytest.approx(reference.weight.std().item(), rel=0.1)


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_the_seed_decides_the_weights(build):
    assert fingerprint(build(seed=1)) == fingerprint(build(seed=1))
    assert fingerprint(build(seed=1)) != fingerprint(build(seed=2))


def test_weights_are_these_on_every_machine():
    expected = {"lenet": "0ff04e97517fdf97", "mlp": "e36a2c0e236efdfb", "convnet": "a9440167be2f8d0a"}
    expected["resnet"] = "1ba1b42e19bb7275"
    assert {name: fingerprint(build()) for name, build in BUILDERS.items()} == expected


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_building_ignores_the_global_state_and_leaves_it_alone(build):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fingerprint(build())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    torch.set_default_dtype(torch.float64)
    try:
        second = build()
    finally:
        torch.set_default_dtype(torch.float32)
    assert fingerprint(second) == first
    assert all(parameter.dtype == torch.float32 for parameter in second.parameters())


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_gradients_stack_under_vmap(build):
    model = build(4, channels=1, size=8).double().eval()
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    images = torch.rand(3, 1, 1, 8, 8, dtype=torch.float64)

    def score(image):
        return functional_call(model, parameters, (image,)).logsumexp(1).sum()

    stacked = vmap(grad(score))(images)
    one_by_one = torch.stack([grad(score)(image) for image in images])
    assert torch.allclose(stacked, one_by_one, atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(hidden=st.lists(st.integers(1, 9), max_size=3), size=st.integers(1, 6), channels=st.integers(1, 3))
def test_mlp_has_the_layers_asked_for(hidden, size, channels):
    model = models.mlp(5, channels=channels, size=size, hidden=hidden)
    widths = [layer.in_features for layer in model if isinstance(layer, nn.Linear)]
    assert widths == [channels * size * size, *hidden]


def test_a_model_can_be_trained_and_saved(tmp_path):
    model = models.convnet(3, size=8, widths=(4, 4))
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = models.convnet(3, size=8, widths=(4, 4), seed=5)
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert fingerprint(other) == fingerprint(model)


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_unknown_activation_lists_the_known_ones(build):
    with pytest.raises(ValueError, match=r"'swish'.*sigmoid, tanh, relu"):
        build(activation="swish")


@pytest.mark.parametrize(
    "build, options, message",
    [
        (models.lenet, {"classes": 0}, "classes .* got 0"),
        (models.lenet, {"size": -1}, "size .* got -1"),
        (models.convnet, {"channels": 1.5}, "channels .* got 1.5"),
        (models.convnet, {"widths": (8, 0)}, r"widths\[1\] .* got 0"),
        (models.convnet, {"norm": "layer"}, "norm.*'layer'"),
        (models.lenet, {"width": 0}, "width .* got 0"),
        (models.lenet, {"bound": 0}, "bound .* got 0"),
        (models.resnet, {"blocks": 0}, "blocks .* got 0"),
        (models.resnet, {"norm": "layer"}, "norm.*'layer'"),
        (models.cnn6, {"widths": (4, 4)}, r"six widths.* got 2"),
        (models.cnn6, {"size": 0}, "size .* got 0"),
        (models.mlp, {"hidden": (0,)}, r"hidden\[0\] .* got 0"),
    ],
)
def test_bad_settings_are_named(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_the_width_and_the_bound_of_lenet():
    model = models.lenet(width=5, bound=0.1)
    assert model.conv3.weight.shape == (5, 5, 5, 5)
    assert 0.099 < max(float(parameter.detach().abs().max()) for parameter in model.parameters()) <= 0.1
