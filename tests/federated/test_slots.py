"""Calling a module with other parameters agrees with PyTorch's own way, and leaves no trace."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from gilib.federated.functional import as_function
from gilib.federated.slots import Slots


class Tied(nn.Module):
    """One weight in two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x.flatten(1)).tanh())


def networks():
    torch.manual_seed(0)
    yield "tied", Tied()
    yield "parametrized", nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(6, 3)))
    yield "normalized", nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).eval()


@pytest.mark.parametrize("name, module", networks())
def test_agrees_with_functional_call_and_puts_everything_back(name, module):
    images, before = torch.rand(3, 1, 2, 3), {key: value.clone() for key, value in module.state_dict().items()}
    kept = dict(module.named_parameters())
    other = {key: torch.randn_like(value) for key, value in kept.items()}
    other |= {key: torch.rand_like(value) for key, value in module.named_buffers() if value.is_floating_point()}
    with Slots(module).filled(other):
        found = module(images)
    assert torch.equal(found, torch.func.functional_call(module, other, (images,)))
    assert all(value is kept[key] for key, value in module.named_parameters())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_everything_is_put_back_after_an_error():
    module = nn.Linear(2, 2)
    weight = module.weight
    with pytest.raises(RuntimeError), Slots(module).filled({"weight": torch.zeros(3, 3)}):
        module(torch.zeros(1, 2))
    assert module.weight is weight


def test_a_layer_that_is_written_out_stays_so_after_the_first_call():
    """The first call decides whether later ones look for layers without a second derivative."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Hardsigmoid(), nn.Linear(4, 2))
    functional = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), Squashed(), nn.Linear(4, 2))
    for model in (module, functional):
        forward, parameters = as_function(model)
        for _ in range(3):
            image = torch.full((1, 1, 2, 3), 0.3, requires_grad=True)
            tracked = {name: value.clone().requires_grad_() for name, value in parameters.items()}
            loss = forward(tracked, image).square().sum()
            first = torch.autograd.grad(loss, list(tracked.values()), create_graph=True)
            [second] = torch.autograd.grad(sum(value.square().sum() for value in first), image)
            assert second.abs().sum() > 0


class Squashed(nn.Module):
    """A function without a second derivative, inside a module whose type says nothing."""

    def forward(self, x):
        return nn.functional.hardsigmoid(x)
