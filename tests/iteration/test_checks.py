"""What an attack refuses at the door: one clear error for each kind of bad input."""

import dataclasses
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn
from victims import random_batch, shared_updates, small_attack, small_lenet

from gilib import models
from gilib.federated import Client, LocalTraining
from gilib.generators import decoder
from gilib.iteration import representation, stack
from gilib.iteration.labels import joint

MODEL = small_lenet()
[UPDATE] = shared_updates(MODEL, 1)


def spoiled(value: float) -> dict[str, torch.Tensor]:
    gradients = {name: tensor.clone() for name, tensor in UPDATE.gradients.items()}
    gradients["conv2.weight"][0, 0, 0, 0] = value
    return gradients


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in UPDATE.gradients.items() if key != name}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_gradients_that_are_not_finite(value):
    broken = dataclasses.replace(UPDATE, gradients=spoiled(value))
    with pytest.raises(ValueError, match=r"update 1 holds NaN or infinite gradients in \['conv2.weight'\]"):
        small_attack().reconstruct_many(MODEL, [UPDATE, broken])


def test_the_update_of_a_model_with_other_shapes():
    with pytest.raises(
        ValueError, match=r"belongs to another model: parameter 'linear.bias' has shape \(7,\) in the model and \(5,\)"
    ):
        small_attack().reconstruct(models.lenet(7, size=8).double(), UPDATE)


def test_the_update_of_a_model_with_other_names():
    other = models.mlp(5, size=8, hidden=()).double()
    with pytest.raises(
        ValueError, match=r"parameter 'conv1.bias' has shape none .*Pass the model that the client trained"
    ):
        small_attack().reconstruct(other, UPDATE)


def test_an_update_that_lacks_a_parameter():
    with pytest.raises(
        ValueError, match=r"parameter 'conv1.bias' has shape \(12,\) in the model and none in the update"
    ):
        small_attack().reconstruct(MODEL, dataclasses.replace(UPDATE, gradients=without("conv1.bias")))


def test_an_update_of_frozen_parameters_too():
    frozen = small_lenet()
    frozen.conv1.bias.requires_grad_(False)
    with pytest.raises(
        ValueError, match=r"parameter 'conv1.bias' has shape none in the model and \(12,\) in the update"
    ):
        small_attack().reconstruct(frozen, UPDATE)
    part = dataclasses.replace(UPDATE, gradients=without("conv1.bias"))
    assert small_attack().reconstruct(frozen, part).images.shape == (1, 3, 8, 8)


def test_no_update_at_all():
    with pytest.raises(ValueError, match="no update to attack: got an empty list"):
        small_attack().reconstruct_many(MODEL, [])


def test_an_empty_batch():
    with pytest.raises(ValueError, match="update 0 has batch size 0; expected at least 1"):
        small_attack().reconstruct(MODEL, dataclasses.replace(UPDATE, batch_size=0))


@pytest.mark.parametrize(
    "agreed, value",
    [
        ("batch_size", 2),
        ("image_shape", (3, 4, 16)),
        ("local", LocalTraining(steps=2)),
        ("loss", nn.functional.cross_entropy),
        ("mode", "train"),
    ],
)
def test_updates_that_differ_in_what_was_agreed(agreed, value):
    other = dataclasses.replace(UPDATE, **{agreed: value})
    with pytest.raises(ValueError, match=f"update 1 differs from update 0 in {agreed}.*in another call"):
        small_attack().reconstruct_many(MODEL, [UPDATE, other])


def test_a_mode_that_does_not_exist():
    with pytest.raises(ValueError, match="mode must be 'eval' or 'train'; got 'predict'"):
        small_attack().reconstruct(MODEL, dataclasses.replace(UPDATE, mode="predict"))


def test_labels_outside_the_classes():
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.4, .*got 9\.\.9"):
        small_attack().reconstruct(MODEL, dataclasses.replace(UPDATE, labels=torch.tensor([9])))


@pytest.mark.parametrize("labels", [torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64)])
def test_labels_that_do_not_fit_the_batch(labels):
    with pytest.raises(ValueError, match=f"expected 1 labels.*got {len(labels)}"):
        small_attack().reconstruct(MODEL, dataclasses.replace(UPDATE, labels=labels))


def test_images_that_do_not_fit_the_model():
    with pytest.raises(ValueError, match=r"model does not take images of shape \(2, 3, 16, 16\)"):
        Client(MODEL).update(random_batch(2, size=16))
    with pytest.raises(ValueError, match=r"model does not take images of shape \(1, 1, 8, 8\)"):
        small_attack().reconstruct(MODEL, dataclasses.replace(UPDATE, image_shape=(1, 8, 8)))


def test_a_model_that_returns_no_logits():
    model = nn.Conv2d(3, 5, 3).double()
    with pytest.raises(ValueError, match=r"must return logits of shape \(2, classes\); got \(2, 5, 6, 6\)"):
        Client(model).update(random_batch(2))


def test_more_restarts_than_memory_allows(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20))
    assert small_attack(restarts=2).reconstruct(MODEL, UPDATE).images.shape == (1, 3, 8, 8)
    with pytest.raises(MemoryError, match=r"500 candidates .* GiB are free. Use fewer restarts"):
        small_attack(restarts=500).reconstruct(MODEL, UPDATE)
    with pytest.raises(MemoryError):
        small_attack(restarts=2).reconstruct(MODEL, UPDATE, snapshots=10**6)


def test_memory_counts_what_is_searched_not_the_pixels(monkeypatch):
    """A network's weights may be far more numbers than the images that they draw."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**22))
    network = decoder(4, channels=3, size=8, width=64).double()
    small_attack(representation=representation.latent(network, 4)).reconstruct(MODEL, UPDATE)
    with pytest.raises(MemoryError):
        small_attack(representation=representation.weights(network, 4)).reconstruct(MODEL, UPDATE)


def test_far_more_restarts_than_memory_allows_fail_before_anything_is_allocated():
    with pytest.raises(MemoryError, match=r"1000000000 candidates"):
        small_attack(restarts=10**9).reconstruct(MODEL, UPDATE)


@pytest.mark.parametrize("settings", [{"iterations": 0}, {"restarts": 0}])
def test_no_iterations_or_no_restarts(settings):
    with pytest.raises(ValueError, match="iterations and restarts must be at least 1"):
        small_attack(**settings)


def test_compiling_without_a_compiler(monkeypatch):
    monkeypatch.setattr(stack.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"compiled=True needs a C\+\+ compiler.*or leave compiled=False"):
        small_attack().reconstruct(MODEL, UPDATE, compiled=True)


def test_dropout_in_train_mode():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 5)).double()
    [update] = shared_updates(model, 1)
    with pytest.raises(ValueError, match=r"draws at random in layer '1' \(Dropout\), from a global random state"):
        small_attack().reconstruct(model, dataclasses.replace(update, mode="train"))


def test_a_local_batch_larger_than_the_data():
    update = dataclasses.replace(UPDATE, local=LocalTraining(batch_size=4, drop_last=True))
    with pytest.raises(ValueError, match=r"local batch of 4 needs at least 4 samples .* the client holds 1"):
        small_attack(labels=joint()).reconstruct(MODEL, update)
