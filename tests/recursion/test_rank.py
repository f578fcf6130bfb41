"""The rank analysis: what it counts, what it computes, what it refuses to guess, and whether it is right."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from victims import nothing_changes, psnr, random_batch, small_convnet, updates

from gilib import models
from gilib.iteration import idlg, labels
from gilib.recursion import jacobian_rank, layer_equations, rank_analysis, rgap

SHAPE = (3, 8, 8)


def network(*convolutions, activation=nn.Tanh, pool=None, bias=True, seed=0):
    """Convolutions (filters, kernel, stride, padding) on 8 x 8 images, then perhaps pooling, then a linear layer."""
    layers, features = [], torch.zeros(1, *SHAPE)
    for filters, kernel, stride, padding in convolutions:
        layers += [nn.Conv2d(features.shape[1], filters, kernel, stride, padding, bias=bias), activation()]
        features = layers[-2](features)
    if pool is not None:
        layers.append(pool)
        features = pool(features)
    layers += [nn.Flatten(), nn.Linear(features.numel(), 5, bias=bias)]
    return models.draw_weights(nn.Sequential(*layers), seed=seed).double()


def patches(filters):
    """One convolution that reads patches of 2 x 2 pixels, 12 numbers at 16 places, side by side."""
    return network((filters, 2, 2, 0))


def test_counts_equations_and_unknowns():
    report = rank_analysis(network((4, 3, 1, 1), (2, 5, 2, 2), bias=False), SHAPE)
    first, second, last = report.layers
    assert (first.unknowns, first.gradient, first.forward) == (192, 4 * 3 * 9, 4 * 64)
    assert first.padding == 3 * (10 * 10 - 64)
    assert (second.unknowns, second.gradient, second.forward) == (256, 2 * 4 * 25, 2 * 16)
    assert (last.unknowns, last.gradient, last.certain) == (32, 32 * 5, 32 * 5)
    assert [layer.verdict for layer in report.layers] == ["determined", "short", "determined"]
    assert report.first_short == second
    assert report.index == pytest.approx(232 / 256)
    assert (report.parameters, report.pixels, report.predicts_leak) == (108 + 200 + 160, 192, None)


@pytest.mark.parametrize("filters", [1, 5, 7, 11, 12, 16])
def test_rank_of_patches_is_the_closed_form(filters):
    """Each filter brings 12 + 16 equations, and each pair of filters says one thing twice."""
    independent = 12 * 16 - max(12 - filters, 0) * max(16 - filters, 0)
    report = rank_analysis(patches(filters), SHAPE, numerical=True)
    assert report.layers[0].gradient + report.layers[0].forward == 28 * filters
    assert report.layers[0].rank == independent
    assert jacobian_rank(patches(filters), SHAPE).rank == independent
    assert report.predicts_leak is (filters >= 12)
    assert rank_analysis(patches(filters), SHAPE).predicts_leak is (filters >= 7)


def test_equations_hold_at_the_true_input():
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2).double()
    x = torch.randn(1, 4, 7, 7, generator=generator, dtype=torch.float64)
    output = layer(x)
    k = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    weight, forward = layer_equations(layer, x.shape, k)
    [gradient] = torch.autograd.grad(output, layer.weight, k)
    torch.testing.assert_close(weight @ x.flatten(), gradient.flatten(), atol=1e-12, rtol=1e-12)
    expected = (output - layer.bias[:, None, None]).flatten()
    torch.testing.assert_close(forward @ x.flatten(), expected, atol=1e-12, rtol=1e-12)


def test_every_pair_of_filters_repeats_one_equation():
    """The product of filter i with the gradient of filter j is known from the output as well."""
    layer = network((5, 3, 1, 1))[0]
    generator = torch.Generator().manual_seed(1)
    k = torch.randn(1, 5, 8, 8, generator=generator, dtype=torch.float64)
    weight, forward = layer_equations(layer, torch.Size((1, *SHAPE)), k)
    filters = layer.weight.detach().flatten(1)
    left = torch.einsum("id,jdn->ijn", filters, weight.reshape(5, 27, 192))
    right = torch.einsum("jp,ipn->ijn", k.reshape(5, 64), forward.reshape(5, 64, 192))
    torch.testing.assert_close(left, right, atol=1e-12, rtol=1e-12)


def test_relu_hides_outputs():
    report = rank_analysis(small_convnet(), SHAPE)
    assert report.layers[0].certain == report.layers[0].gradient == 108
    assert report.layers[0].verdict == "cannot tell"
    assert "≤256" in str(report)
    wide = rank_analysis(models.convnet(size=8, widths=(16, 32)), SHAPE, numerical=True)
    assert wide.predicts_leak
    narrow = rank_analysis(network((3, 3, 1, 1), activation=nn.ReLU), SHAPE, numerical=True).layers[0]
    smooth = rank_analysis(network((3, 3, 1, 1)), SHAPE, numerical=True).layers[0]
    assert narrow.rank < smooth.rank == 192


def test_a_linear_layer_with_bias_makes_the_layers_above_irrelevant():
    report = rank_analysis(models.mlp(5, size=8, hidden=(6, 4)), SHAPE)
    assert [layer.name for layer in report.needed] == ["linear1"]
    assert report.predicts_leak
    assert str(report).count("not needed") == 2
    unbiased = models.mlp(5, size=8, hidden=(6, 4))
    unbiased.linear1.bias.requires_grad = False
    assert [layer.name for layer in rank_analysis(unbiased, SHAPE).needed] == ["linear1", "linear2"]


def test_frozen_layers_share_nothing():
    model = network((16, 3, 1, 1))
    for parameter in model[0].parameters():
        parameter.requires_grad = False
    report = rank_analysis(model, SHAPE, numerical=True)
    assert report.layers[0].gradient == 0
    assert report.parameters == 16 * 64 * 5 + 5
    assert report.layers[0].rank == 192  # the outputs are enough


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (nn.MaxPool2d(3, 1, 1), "largest"),
        (nn.GELU(), "two inputs"),
        (nn.LayerNorm((8, 8, 8)), "does not know LayerNorm"),
        (models.Residual(8, 8, stride=1, activation="relu", norm=None), "does not know Residual"),
        (nn.LeakyReLU(-0.1), "does not know LeakyReLU"),
        (nn.BatchNorm2d(8, track_running_stats=False), "client's own statistics"),
    ],
)
def test_names_what_it_cannot_tell(part, reason):
    model = network((8, 3, 1, 1), activation=lambda: part, seed=3)
    for numerical in (False, True):
        report = rank_analysis(model, SHAPE, numerical=numerical)
        doubtful = report.layers[1]
        assert (doubtful.verdict, doubtful.index, doubtful.rank) == ("cannot tell", None, None)
        assert report.predicts_leak is None
        assert report.index is None
        assert reason in doubtful.reason
        assert f"cannot tell: 1, {doubtful.reason}" in str(report)


def test_batch_norm_and_dropout_depend_on_the_mode():
    model = nn.Sequential(*network((8, 3, 1, 1))[:1], nn.BatchNorm2d(8), nn.Tanh(), nn.Dropout(), nn.Flatten())
    model.append(nn.Linear(512, 5))
    assert [layer.kind for layer in rank_analysis(model, SHAPE).layers] == ["Conv2d", "Linear"]
    report = rank_analysis(model, SHAPE, mode="train")
    assert [layer.verdict for layer in report.layers] == ["determined", "cannot tell", "cannot tell", "determined"]


def test_attention_and_recurrent_layers_do_not_raise():
    class Tokens(nn.Module):
        def forward(self, images):
            return images.flatten(2).transpose(1, 2)

    class First(nn.Module):
        def forward(self, pair):
            return pair[0][:, 0]

    block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    model = nn.Sequential(nn.Conv2d(3, 4, 2, 2), Tokens(), block, nn.LSTM(4, 6, batch_first=True), First())
    model.append(nn.Linear(6, 5))
    report = rank_analysis(model, SHAPE, numerical=True)
    assert [layer.verdict for layer in report.layers[1:]] == ["cannot tell"] * 4 + ["determined"]
    assert report.predicts_leak is False  # by the bound: 48 weights and 64 outputs


def test_shared_weights_and_models_that_are_not_sequential():
    layer = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Flatten(), nn.Linear(192, 5))
    report = rank_analysis(model, SHAPE, numerical=True)
    assert [one.verdict for one in report.layers] == ["cannot tell", "cannot tell", "determined"]
    assert "more than once" in report.layers[0].reason

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, images):
            return self.inner(images)

    whole = rank_analysis(Whole(), SHAPE, numerical=True)
    assert [one.name for one in whole.layers] == ["inner.0", "inner.2", "inner.5"]
    assert [one.verdict for one in whole.layers] == [one.verdict for one in report.layers]

    class Branched(Whole):
        def forward(self, images):
            return self.inner(images) + self.inner(1 - images)

    [row] = rank_analysis(Branched(), SHAPE).layers
    assert (row.name, row.verdict) == ("model", "cannot tell")
    assert "'add' joins 'inner' and 'inner', so there is a branch" in row.reason


convolution = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2))


@settings(max_examples=25, deadline=None)
@given(
    convolutions=st.lists(convolution, min_size=1, max_size=2).filter(
        lambda layers: all(padding < kernel for _, kernel, _, padding in layers) and layers[0][2] < 3
    ),
    activation=st.sampled_from([nn.Tanh, nn.ReLU, nn.GELU, nn.LeakyReLU]),
    pool=st.sampled_from([None, nn.AvgPool2d(2, ceil_mode=True), nn.AdaptiveMaxPool2d(1)]),
    seed=st.integers(0, 99),
)
def test_bound_holds_for_any_network_and_contains_the_dimension_bound(convolutions, activation, pool, seed):
    try:
        model = network(*convolutions, activation=activation, pool=pool, seed=seed)
        report = rank_analysis(model, SHAPE)
    except (RuntimeError, ValueError):  # a kernel larger than what is left of the picture
        return
    image = random_batch(1, seed=seed).images[0]
    rank = jacobian_rank(model, SHAPE, image=image).rank
    assert rank <= report.bound <= report.parameters
    if report.parameters < report.pixels:
        assert report.predicts_leak is False
    known = [layer for layer in report.needed if not layer.reason]
    if report.parameters < report.pixels and len(known) == len(report.needed):
        assert any(layer.verdict != "determined" for layer in known)


def test_predictions_agree_with_attacks():
    """Smooth networks, three victims each: exact where the rank says so, not exact where the bound forbids it."""
    batches = [random_batch(1, seed=seed) for seed in range(3)]
    attack = dataclasses.replace(idlg(iterations=120), labels=labels.known())
    zoo = {
        "patches, short by rank alone": (patches(8), False),
        "patches": (patches(16), True),
        "unread pixels": (network((16, 1, 2, 0)), False),
        "wide LeNet": (models.lenet(5, size=8, width=6).double(), True),
        "narrow LeNet": (models.lenet(5, size=8, width=2).double(), False),
        "pooled to nothing": (network((4, 3, 1, 1), pool=nn.AvgPool2d(4)), False),
        "no biases": (network((8, 3, 1, 1), bias=False), True),
    }
    for name, (model, leaks) in zoo.items():
        assert rank_analysis(model, SHAPE, numerical=True).predicts_leak is leaks, name
        assert jacobian_rank(model, SHAPE, image=batches[0].images[0], label=int(batches[0].labels)).full is leaks, name
        shared = updates(model, batches, share_labels=True)
        found = attack.reconstruct_many(model, shared)
        found = [dataclasses.replace(one, images=one.images.clamp(0, 1)) for one in found]
        quality = psnr(found, batches)
        assert bool(quality.median() > 45) is leaks, (name, quality)


def test_predicts_the_recursion():
    batch = random_batch(1, seed=1)
    for filters, exact in ((8, False), (13, True)):
        model = network((filters, 2, 2, 0), activation=lambda: nn.LeakyReLU(0.2))
        [update] = updates(model, [batch])
        found = rgap(model, update)
        report = rank_analysis(model, SHAPE, numerical=True)
        assert report.predicts_leak is exact
        assert found.exact is exact
        assert ((found.images - batch.images).abs().max() < 1e-6) == exact


def test_jacobian_rank_is_local_and_checks_its_input():
    model = small_convnet(activation="tanh")
    found = jacobian_rank(model, SHAPE)
    assert found.full
    assert 1 < found.condition < 1e6
    assert jacobian_rank(patches(4), SHAPE).condition == float("inf")
    black = jacobian_rank(network((4, 3, 1, 0), activation=nn.ReLU), SHAPE, image=torch.zeros(SHAPE), label=2)
    assert not black.full
    with pytest.raises(ValueError, match=r"image of shape \(3, 8, 8\)"):
        jacobian_rank(model, SHAPE, image=torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="labels must lie"):
        jacobian_rank(model, SHAPE, label=7)


def test_errors_and_large_layers(monkeypatch):
    with pytest.raises(ValueError, match="does not take images"):
        rank_analysis(small_convnet(), (1, 8, 8))
    with pytest.raises(ValueError, match="nothing to analyse"):
        rank_analysis(nn.Sequential(nn.Flatten()), SHAPE)
    monkeypatch.setattr("gilib.recursion.equations.LARGEST", 191)
    report = rank_analysis(network((4, 3, 1, 1)), SHAPE, numerical=True)
    assert report.layers[0].rank is None
    assert report.layers[0].verdict == "determined"  # the count


def test_logits_are_not_equations():
    """A convolution that ends the network: its weights alone are too few, and its outputs are the logits."""
    model = models.draw_weights(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()), seed=0)
    for numerical in (False, True):
        report = rank_analysis(model, SHAPE, numerical=numerical)
        assert report.layers[0].verdict == "cannot tell"
        assert report.layers[0].rank is None
        assert report.predicts_leak is False  # 16 parameters


def test_table_is_readable():
    lines = str(rank_analysis(patches(8), SHAPE, numerical=True)).splitlines()
    assert lines[0].split() == ["layer", "kind", "unknowns", "gradient", "forward", "padding", "rank", "verdict"]
    assert lines[1].split() == ["0", "Conv2d", "192", "96", "128", "0", "160", "short"]
    assert lines[-1] == "not determined among real-valued images: at most 160 equations for 192 pixels"


def test_nothing_changes(capfd):
    model = small_convnet(norm="batch").train()
    with nothing_changes(model, capfd):
        rank_analysis(model, SHAPE, numerical=True, mode="train")
        jacobian_rank(model, SHAPE)
