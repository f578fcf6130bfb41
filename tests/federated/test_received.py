"""Updates that other engines made become ours, or are told what they are."""

import copy

import pytest
import torch
from torch import nn
from victims import random_batch, small_attack, small_convnet

from gilib import metrics, models
from gilib.federated import Client, LocalTraining, Update
from gilib.recursion import phong

SHAPE = {"batch_size": 2, "image_shape": (3, 8, 8)}


def trained(model: nn.Module, batch, *, rate: float = 0.1, steps: int = 1) -> nn.Module:
    """What a client of another engine sends back: a model after plain steps in train mode."""
    worker = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD([p for p in worker.parameters() if p.requires_grad], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(worker(batch.images.to(next(worker.parameters()))), batch.labels).backward()
        optimizer.step()
    return worker


def close(found: Update, expected: Update, rtol: float = 1e-9) -> None:
    assert list(found.gradients) == list(expected.gradients)
    for name, value in expected.gradients.items():
        torch.testing.assert_close(found.gradients[name], value, rtol=rtol, atol=1e-12 if rtol < 1e-6 else 1e-5)


@pytest.mark.parametrize("kind", ["dictionary", "list", "file of a dictionary", "file of a list", "with gaps"])
def test_gradients_in_every_form(kind, tmp_path):
    model, batch = small_convnet(), random_batch(2)
    model.conv1.bias.requires_grad_(False)
    expected = Client(model).update(batch)
    given = dict(expected.gradients)
    if "list" in kind:
        given = list(given.values())
    if kind == "with gaps":
        given = [given.get(name) for name, _ in model.named_parameters()]
    if "file" in kind:
        torch.save(given, tmp_path / "gradients.pt")
        given = tmp_path / "gradients.pt"
    close(Update.from_gradients(model, given, **SHAPE), expected)


@pytest.mark.parametrize("steps", [1, 3])
def test_weights_before_and_after(steps):
    model, batch = small_convnet(norm="batch"), random_batch(2)
    local = LocalTraining(steps=steps, learning_rate=0.1)
    expected = Client(model, local=local, mode="train", share_buffers=True).update(batch)
    after = trained(model, batch, steps=steps)
    settings = {"local": local, "mode": "train", **SHAPE}
    states = model.state_dict(), after.state_dict()
    found = Update.from_state_dicts(model, *states, share_buffers=True, **settings)
    close(found, expected)
    for name, value in expected.buffers.items():
        torch.testing.assert_close(found.buffers[name], value)
    arrays = [[value.numpy() for value in state.values()] for state in states]
    close(Update.from_arrays(model, *arrays, **settings), expected)
    parameters = [[value.detach().numpy() for value in net.parameters()] for net in (model, after)]
    close(Update.from_arrays(model, *parameters, **settings), expected)


def test_the_rounding_of_weights_is_stated_and_true():
    model, batch = models.mlp(5, size=8, hidden=(16,)), random_batch(1)
    exact = Client(copy.deepcopy(model).double()).update(batch).gradients
    size = torch.cat([value.flatten() for value in exact.values()]).norm()
    for rate in (0.1, 1e-3):
        local = LocalTraining(learning_rate=rate)
        after = trained(model, batch, rate=rate).state_dict()
        one = {"batch_size": 1, "image_shape": (3, 8, 8)}
        found = Update.from_state_dicts(model, model.state_dict(), after, local=local, **one)
        gaps = [(found.gradients[name].double() - value).flatten() for name, value in exact.items()]
        off = torch.cat(gaps).norm()
        assert off < 2 * found.public["rounding"] * size
        assert off > 0.01 * found.public["rounding"] * size


def test_an_update_from_weights_is_attacked_like_one_of_ours():
    model, batch = models.mlp(5, size=8, hidden=(16,)).double(), random_batch(1)
    local = LocalTraining(learning_rate=0.05)
    after = trained(model, batch, rate=0.05).state_dict()
    update = Update.from_state_dicts(
        model, model.state_dict(), after, local=local, batch_size=1, image_shape=(3, 8, 8), labels=batch.labels
    )
    assert metrics.psnr(phong(model, update).images, batch.images) > 200
    assert small_attack().reconstruct(model, update).images.shape == (1, 3, 8, 8)


def spoiled(**changes) -> dict:
    return {**Client(small_convnet(norm="batch")).update(random_batch(2)).gradients, **changes}


@pytest.mark.parametrize(
    "given, message",
    [
        ({"conv1.weight": torch.zeros(1)}, r"missing .*expected \d+ names such as 'conv1.weight'"),
        (spoiled(extra=torch.zeros(1)), "not in the model 'extra'"),
        ({f"module.{name}": value for name, value in spoiled().items()}, "carry a wrapper's prefix"),
        (spoiled(**{"norm1.running_mean": torch.zeros(4)}), "use from_state_dicts"),
        (spoiled(**{"linear.bias": torch.zeros(3)}), r"gradient 'linear.bias' of shape \(5,\).*got \(3,\)"),
        (spoiled(**{"linear.bias": torch.full((5,), torch.nan)}), "'linear.bias' holds NaN or infinite"),
        (spoiled(**{"linear.bias": torch.zeros(5, dtype=torch.int8)}), "floating-point numbers; got torch.int8"),
        (spoiled(**{"linear.bias": "zeros"}), "as a tensor; got str"),
        ([torch.zeros(1)] * 3, r"expected \d+ gradients, one for each trainable parameter.*got 3"),
        (7, "a dictionary, a list or the path of a file; got int"),
    ],
)
def test_what_is_wrong_with_gradients_is_said(given, message):
    with pytest.raises(ValueError, match=message):
        Update.from_gradients(small_convnet(norm="batch"), given, **SHAPE)


def test_files_that_are_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a file of gradients at .*none\.pt"):
        Update.from_gradients(small_convnet(), tmp_path / "none.pt", **SHAPE)
    (tmp_path / "bad.pt").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"bad\.pt is no file of tensors"):
        Update.from_gradients(small_convnet(), str(tmp_path / "bad.pt"), **SHAPE)


def test_states_that_do_not_fit():
    model = small_convnet()
    state = model.state_dict()
    local, other = LocalTraining(), {name: value + 1 for name, value in state.items()}
    with pytest.raises(ValueError, match="no trainable weight has changed"):
        Update.from_state_dicts(model, state, state, local=local, **SHAPE)
    with pytest.raises(ValueError, match=r"not those before the training.*load_state_dict\(before\)"):
        Update.from_state_dicts(model, other, state, local=local, **SHAPE)
    frozen = copy.deepcopy(model)
    frozen.conv1.weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"'conv1.weight' is frozen in the model and has changed"):
        Update.from_state_dicts(frozen, state, other, local=local, **SHAPE)
    with pytest.raises(ValueError, match=r"expected before as \d+ arrays .* got 1"):
        Update.from_arrays(model, [state["conv1.weight"].numpy()], [], local=local, **SHAPE)
