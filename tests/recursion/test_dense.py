"""One division: exact for one sample, a mixture for a batch, and a report that knows the difference."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from victims import nothing_changes, random_batch, small_convnet

from gilib import data, models
from gilib.data import Batch
from gilib.defenses.privacy import gaussian_noise
from gilib.federated import Client, LocalTraining, Update
from gilib.recursion import dense_input, dense_report, layer_inputs, lone_inputs, nearest_input, phong

SMOOTH = ("sigmoid", "tanh", "softplus")


def small_mlp(*, hidden: tuple[int, ...] = (20, 12), activation: str = "sigmoid", seed: int = 0) -> nn.Sequential:
    return models.mlp(5, size=8, hidden=hidden, activation=activation, seed=seed).double()


def relative(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float(((found - truth).norm() / truth.norm()).detach())


def features(model: nn.Sequential, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What enters each linear layer, (B, in), computed forwards."""
    seen = {}
    for name, layer in model.named_children():
        if isinstance(layer, nn.Linear):
            seen[name] = images.detach()
        images = layer(images)
    return seen


def weights_of(update: Update, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return update.gradients[f"{name}.weight"], update.gradients[f"{name}.bias"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 40), max_size=3), st.sampled_from((*SMOOTH, "leaky_relu")))
def test_image_features_and_label_come_back_to_machine_precision(seed, hidden, activation):
    model, batch = small_mlp(hidden=tuple(hidden), activation=activation, seed=seed), random_batch(1, seed=seed)
    update = Client(model).update(batch)
    found = phong(model, update)
    assert relative(found.images, batch.images) <= 1e-10
    assert found.exact
    assert found.labels.tolist() == batch.labels.tolist()
    truth = features(model, batch.images)
    recovered = layer_inputs(update)
    assert list(recovered) == list(truth)
    for name, value in truth.items():
        assert relative(recovered[name], value[0]) <= 1e-10


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 64), st.floats(-250, 0))
def test_a_perceptron_gives_its_input_however_small_its_gradient(seed, inputs, exponent):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(inputs, generator=generator, dtype=torch.float64)
    weight = torch.randn(inputs, generator=generator, dtype=torch.float64).requires_grad_()
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    loss = torch.nn.functional.softplus(-(weight @ x + bias))
    grads = torch.autograd.grad(loss, (weight, bias))
    scale = 10.0**exponent
    assert relative(dense_input(scale * grads[0][None], scale * grads[1][None]), x) <= 1e-10


def test_photographs_come_back_from_a_relu_network():
    photos = data.load("photos", size=16)
    model = models.mlp(size=16, hidden=(64, 32)).double()
    for index in range(16):
        victim = photos.batch(index)
        found = phong(model, Client(model).update(victim))
        assert relative(found.images, victim.images.double()) <= 1e-10
        assert found.layers[0].residual < 1e-12
        assert found.layers[0].condition == pytest.approx(1)


def test_a_batch_is_a_mixture_with_weights_that_sum_to_one_and_the_report_warns():
    model = small_mlp()
    for count in (2, 3, 8):
        batch = random_batch(count)
        update = Client(model).update(batch)
        deltas = [
            Client(model).update(Batch(x[None], y[None])) for x, y in zip(batch.images, batch.labels, strict=True)
        ]
        single = torch.stack([weights_of(one, "linear1")[1] for one in deltas]) / count
        mixing = single @ single.sum(dim=0) / single.sum(dim=0).square().sum()
        found = phong(model, update)
        assert found.images.shape == (1, 3, 8, 8)
        assert relative(found.images[0], torch.einsum("b,bchw->chw", mixing, batch.images)) <= 1e-10
        assert mixing.sum() == pytest.approx(1)
        assert found.labels is None
        assert not found.exact
        [layer] = found.layers
        assert layer.name == "linear1"
        assert layer.residual > 1e-3
        assert layer.unknowns - layer.rank == count * (count - 1)
        weight, _ = weights_of(update, "linear1")
        assert torch.linalg.matrix_rank(weight) == count


def test_one_neuron_hides_a_batch_from_the_rank_but_not_from_the_report():
    model = models.mlp(5, size=8, hidden=(1,), activation="sigmoid").double()
    found = phong(model, Client(model).update(random_batch(2)))
    assert found.layers[0].residual < 1e-12  # one row fits any input
    assert not found.exact


def test_the_missing_numbers_of_a_batch_are_those_of_a_change_of_basis():
    """Any invertible mixture of the rows [h | 1] whose last column stays 1 explains the same gradients."""
    generator = torch.Generator().manual_seed(0)
    delta, h = (torch.randn(3, n, generator=generator, dtype=torch.float64) for n in (7, 10))
    mixing = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    mixing = mixing / mixing.sum(dim=1, keepdim=True)
    other = torch.linalg.solve(mixing.T, delta)
    torch.testing.assert_close(other.T @ (mixing @ h), delta.T @ h)
    torch.testing.assert_close(other.sum(dim=0), delta.sum(dim=0))
    report = dense_report(delta.T @ h, delta.sum(dim=0))
    assert (report.unknowns, report.rank) == (30, 30 - 6)


def test_neurons_that_saw_one_sample_prove_it_by_agreeing():
    photos = data.load("photos", size=16)
    model = models.mlp(size=16, hidden=(128,)).double()
    caught = 0
    for victim in range(16):
        batch = photos.batch(range(4 * victim, 4 * victim + 4))
        rows = lone_inputs(*weights_of(Client(model).update(batch), "linear1"))
        same = torch.cdist(rows, batch.images.double().flatten(1), p=torch.inf) < 1e-9
        assert same.any(dim=1).all()  # no mixture among them
        assert same.sum(dim=0).max() <= 1  # and each only once
        caught += int(same.any(dim=0).sum())
    assert caught >= 48
    smooth = small_mlp()
    assert lone_inputs(*weights_of(Client(smooth).update(random_batch(4)), "linear1")).shape == (0, 192)
    assert len(lone_inputs(torch.zeros(2, 3), torch.zeros(2))) == 0


def test_local_steps_leave_the_image_exact_and_mix_the_features():
    model = small_mlp(hidden=(64, 32))
    batch = random_batch(1)
    update = Client(model, local=LocalTraining(steps=4, learning_rate=0.5)).update(batch)
    found = phong(model, update)
    assert relative(found.images, batch.images) <= 1e-10
    assert found.exact
    assert found.labels.tolist() == batch.labels.tolist()
    report = dense_report(*weights_of(update, "linear2"), name="linear2")
    assert not report.determined
    assert report.residual > 1e-6
    assert relative(layer_inputs(update)["linear2"], features(model, batch.images)["linear2"][0]) > 1e-6


def test_local_steps_over_different_samples_mix_images():
    model = small_mlp()
    local = LocalTraining(steps=3, batch_size=1)
    assert not phong(model, Client(model, local=local).update(random_batch(3))).exact


def test_a_dead_layer_gives_nothing_and_says_so():
    model = small_mlp(activation="relu")
    model.linear1.bias.data -= 100
    found = phong(model, Client(model).update(random_batch(1)))
    assert not found.exact
    assert found.images.abs().max() == 0
    assert found.layers[0].rank == 0
    assert found.layers[0].condition == float("inf")


def test_a_single_live_unit_is_enough():
    model, batch = small_mlp(activation="relu"), random_batch(1)
    model.linear1.bias.data[1:] -= 100
    model.linear1.bias.data[0] += 100
    found = phong(model, Client(model).update(batch))
    assert found.exact
    assert relative(found.images, batch.images) <= 1e-10


def test_noise_is_reported():
    model, batch = small_mlp(), random_batch(1)
    update = Client(model).update(batch)
    generator = torch.Generator().manual_seed(0)
    noisy = {
        name: value + 1e-4 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for name, value in update.gradients.items()
    }
    found = phong(model, dataclasses.replace(update, gradients=noisy))
    assert not found.exact
    assert found.layers[0].residual > 1e-4


def test_a_convolution_taken_for_a_dense_layer_gives_a_mixture_of_patches():
    model, batch = small_convnet(activation="sigmoid"), random_batch(1)
    seen = []
    model.conv1.register_forward_hook(lambda layer, inputs, output: seen.append(output) or output.retain_grad())
    nn.functional.cross_entropy(model(batch.images), batch.labels).backward()
    delta = seen[0].grad.flatten(2)[0]  # (filters, positions)
    patches = nn.functional.unfold(batch.images, 3, padding=1)[0]  # (27, positions)
    weight, bias = weights_of(Client(small_convnet(activation="sigmoid")).update(batch), "conv1")
    torch.testing.assert_close(weight.flatten(1) / bias[:, None], delta @ patches.T / delta.sum(1, keepdim=True))
    assert not dense_report(weight.flatten(1), bias).determined


def test_features_of_a_convolutional_network_are_those_before_its_last_layer():
    model, batch = small_convnet(), random_batch(1)
    found = layer_inputs(Client(model).update(batch))
    assert list(found) == ["linear"]
    assert relative(found["linear"], model[:-1](batch.images)[0]) <= 1e-10


def test_labels_are_read_only_where_one_negative_entry_means_one_label():
    model, batch = small_mlp(), random_batch(1)

    def squared(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (logits - targets).square().mean()

    found = phong(model, Client(model, loss=squared).update(batch))
    assert found.exact
    assert found.labels is None
    model.linear.bias = None
    assert phong(model, Client(model).update(batch)).labels is None


class Scaled(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 2 * images


def test_layers_that_cannot_be_divided_are_named():
    conv, batch = small_convnet(), random_batch(1)
    with pytest.raises(ValueError, match=r"layer 'conv1' is a Conv2d.*rgap"):
        phong(conv, Client(conv).update(batch))
    bare = small_mlp()
    bare.linear1.bias = None
    with pytest.raises(ValueError, match=r"layer 'linear1' has no bias.*rgap"):
        phong(bare, Client(bare).update(batch))
    scaled = nn.Sequential(Scaled(), *small_mlp())
    with pytest.raises(ValueError, match="layer '2' does not see the pixels as they are"):
        phong(scaled, Client(scaled).update(batch))
    rows = nn.Sequential(nn.Linear(8, 2), nn.Flatten(), nn.Linear(48, 5)).double()
    with pytest.raises(ValueError, match="layer '0' does not see the pixels as they are"):
        phong(rows, Client(rows).update(batch))


def test_updates_that_do_not_belong_are_refused():
    model, batch = small_mlp(), random_batch(1)
    update = Client(model).update(batch)
    with pytest.raises(ValueError, match=r"gradient 'linear1.weight' of shape \(7, 192\).*the client trained"):
        phong(small_mlp(hidden=(7,)), update)
    broken = {**update.gradients, "linear1.bias": update.gradients["linear1.bias"] / 0}
    with pytest.raises(ValueError, match="finite: False"):
        phong(model, dataclasses.replace(update, gradients=broken))
    with pytest.raises(ValueError, match=r"weight \(out, in\) and bias \(out,\); got \(2, 3\) and \(3,\)"):
        dense_input(torch.ones(2, 3), torch.ones(3))
    with pytest.raises(ValueError, match=r"no fully connected layer with a bias.*holds linear.weight"):
        layer_inputs(dataclasses.replace(update, gradients={"linear.weight": torch.ones(2, 3)}))


def test_phong_changes_and_prints_nothing(capfd):
    model = small_mlp(activation="relu").train()
    update = Client(model).update(random_batch(1))
    with nothing_changes(model, capfd):
        phong(model, update)
        layer_inputs(update)


def test_the_nearest_input_uses_what_was_sent_and_stays_in_the_box():
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        h = torch.rand(40, generator=generator, dtype=torch.float64).mul(1.5).sub(0.25).clamp(0, 1)
        delta = torch.randn(30, generator=generator, dtype=torch.float64)
        weight, bias = torch.outer(delta, h), delta
        torch.testing.assert_close(nearest_input(weight, bias), h)
        noise = [0.3 * torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in (weight, bias)]
        found = nearest_input(weight + noise[0], bias + noise[1])
        assert 0 <= found.min() <= found.max() <= 1
        assert (found - h).norm() < (dense_input(weight + noise[0], bias + noise[1]) - h).norm()
        sent = torch.rand(weight.shape, generator=generator) < 0.3
        torch.testing.assert_close(nearest_input(weight * sent, bias), h, atol=1e-6, rtol=0)


def test_phong_takes_an_inexact_update_by_the_nearest_input():
    model = models.mlp(channels=1, size=8, hidden=(50,)).double()
    batch = data.load("digits").batch([3])
    update = Client(model, defenses=(gaussian_noise(0.01),), seed=1).update(batch)
    plain, boxed = phong(model, update).images, phong(model, update, inexact=True).images
    assert 0 <= boxed.min() <= boxed.max() <= 1
    assert (boxed - batch.images).norm() < (plain - batch.images).norm()
