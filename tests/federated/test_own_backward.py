"""Backward passes of somebody's own: attacked where they can be differentiated, refused where they silently cannot."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gilib import data, iteration
from gilib.data import Batch
from gilib.federated import Client, Update
from gilib.iteration.labels import known
from gilib.jacobian import jacobian


class Cube(torch.autograd.Function):
    """As it should be: the backward pass stays in the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * 3 * x**2


class CubeOnce(Cube):
    """Differentiable once, which PyTorch does not mention when the images are searched."""

    backward = staticmethod(once_differentiable(Cube.backward))


class CubeNumPy(Cube):
    """Computed outside the graph."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.from_numpy(grad.detach().numpy() * 3 * x.detach().numpy() ** 2)


class CubeKept(Cube):
    """Keeps a copy of its input that has left the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.kept = x.detach()
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * 3 * ctx.kept**2


class Rounded(torch.autograd.Function):
    """Straight-through rounding: on purpose, its gradient is not its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(16 * x) / 16

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Network(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(64, 32), nn.Linear(32, 10), function

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.function.apply(self.first(images.flatten(1))))


def attacked(function: type[torch.autograd.Function], dtype: torch.dtype) -> tuple[list[float], list[Update]]:
    """The losses of a short attack on two digits."""
    torch.manual_seed(0)
    model, digits = Network(function).to(dtype), data.load("digits")
    updates = [Client(model, share_labels=True).update(digits.batch([index])) for index in range(2)]
    attack = iteration.inverting_gradients(iterations=30, labels=known())
    found = attack.reconstruct_many(model, updates, seed=0)
    return [float(one.losses[-1] / one.losses[0]) for one in found], updates


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [Cube, Rounded])
def test_own_functions_are_attacked(function: type[torch.autograd.Function], dtype: torch.dtype) -> None:
    falls, _ = attacked(function, dtype)
    assert max(falls) < 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [CubeOnce, CubeNumPy, CubeKept])
def test_a_backward_pass_outside_the_graph_is_refused(
    function: type[torch.autograd.Function], dtype: torch.dtype
) -> None:
    with pytest.raises(ValueError, match=rf"backward pass of {function.__name__} cannot be differentiated.*once_diff"):
        attacked(function, dtype)


class CubeNew(torch.autograd.Function):
    """The newer form, which torch.func differentiates too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    backward = staticmethod(Cube.backward)


class CubeNewOnce(CubeNew):
    """Without the check the Jacobian is four fifths wrong."""

    backward = staticmethod(once_differentiable(Cube.backward))


def test_the_jacobian_takes_own_functions_or_says_what_is_wrong() -> None:
    torch.manual_seed(0)
    batch = data.load("digits").batch([0])
    shape = batch.images.shape

    def gradient(client: Client, images: Tensor) -> Tensor:
        shared = client.update(Batch(images, batch.labels)).gradients
        return torch.cat([value.flatten() for value in shared.values()])

    client, images = Client(Network(CubeNew).double()), 0.25 + 0.5 * batch.images.double()
    _, derivative = jacobian(client, Batch(images, batch.labels))
    way = 1e-5 * torch.randn(shape, dtype=torch.float64)
    measured = (gradient(client, images + way) - gradient(client, images - way)) / 2
    torch.testing.assert_close(derivative @ way.flatten(), measured, rtol=1e-6, atol=1e-12)
    with pytest.raises(ValueError, match="backward pass of CubeNewOnce cannot be differentiated"):
        jacobian(Client(Network(CubeNewOnce).double()), batch)
    with pytest.raises(ValueError, match=r"no derivative by its images.*setup_context"):
        jacobian(Client(Network(Cube).double()), batch)
