"""Names of adapters, on a model with the names that peft gives."""

import copy

import pytest
import torch
from torch import nn

from bench.flower import task
from gilib.federated import Client, LocalTraining
from gilib.interop.kept import Kept
from gilib.interop.peft import adapter_state

RATE = 0.1


class Saved(nn.Module):
    """A layer that is trained beside the adapter: the original, and its copies by adapter."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.original_module = layer.requires_grad_(False)
        self.modules_to_save = nn.ModuleDict({"default": copy.deepcopy(layer).requires_grad_()})

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.modules_to_save["default"](values)


class Adapted(nn.Module):
    """A frozen layer with an adapter of rank 2, and a head trained in full."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base_layer = nn.Linear(64, 16).requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(64, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, 16, bias=False)})
        self.head = Saved(nn.Sequential(nn.Linear(16, 10)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.flatten(1)
        added = self.lora_B["default"](self.lora_A["default"](pixels))
        return self.head(torch.relu(self.base_layer(pixels) + added))


def saved(model: nn.Module) -> dict[str, torch.Tensor]:
    """What peft saves: what is trained, without the adapter's name."""
    trained = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    return {name.replace("modules_to_save.", "").replace("default.", ""): one for name, one in trained.items()}


def test_names_are_those_of_the_model():
    model = Adapted()
    given = saved(model)
    assert set(given) == {"lora_A.weight", "lora_B.weight", "head.0.weight", "head.0.bias"}
    found = adapter_state(model, given)
    assert set(found) == {name for name, value in model.named_parameters() if value.requires_grad}
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in found.items())
    assert adapter_state(model, found).keys() == found.keys()


def test_a_round_with_an_adapter_is_an_update():
    model, batch = Adapted(), task.partition(0, 2)
    working, before = copy.deepcopy(model), saved(model)
    task.train(working, batch, epochs=1, batch_size=2, lr=RATE, seed=0)
    states = ({**model.state_dict(), **adapter_state(model, one)} for one in (before, saved(working)))
    kept = Kept(*states, node=1, round=1, examples=2)
    _, update = kept.update(model, image_shape=(1, 8, 8), local=LocalTraining(learning_rate=RATE))
    expected = Client(model).update(batch).gradients
    assert update.gradients.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(update.gradients[name], value, rtol=1e-3, atol=1e-5)


def test_a_parameter_of_an_embedding_has_the_adapter_last():
    model = nn.Module()
    model.lora_embedding_A = nn.ParameterDict({"default": nn.Parameter(torch.ones(2, 3))})
    assert set(adapter_state(model, {"lora_embedding_A": torch.ones(2, 3)})) == {"lora_embedding_A.default"}


def test_what_does_not_fit_is_named():
    model = Adapted()
    with pytest.raises(ValueError, match=r"no parameter for 'lora_C\.weight'"):
        adapter_state(model, {"lora_C.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"no parameter for 'lora_A\.weight', with or without the adapter 'other'"):
        adapter_state(model, saved(model), adapter="other")
    with pytest.raises(ValueError, match=r"expected 'lora_A\.weight' of shape \(2, 64\).* got \(4, 64\)"):
        adapter_state(model, {"lora_A.weight": torch.ones(4, 64)})
