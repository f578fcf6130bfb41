"""Backward passes that somebody wrote: whether they can be differentiated, which PyTorch does not say.

An own `torch.autograd.Function` whose backward pass leaves the graph (`once_differentiable`, NumPy, saved copies) gives
a client its right gradient. An attack differentiates that gradient again and gets a wrong number without an error.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gilib.draws import seeded_generator
from gilib.federated.simulation import Forward, Gradients

TOLERANCE = 0.05
STEPS = (1e-2, 1e-3, 1e-4)
"""Finite differences in single precision are good at one of these steps, or the function is not smooth there."""


def check_own_backward(forward: Forward, parameters: Gradients, images: Tensor) -> None:
    """Raise ValueError if the model has backward passes of its own whose derivative is not that of the gradient.

    ``images`` (B, C, H, W) give shape, dtype and device. Costs one forward pass for all other models. A model whose own
    function has another gradient than its derivative on purpose (straight-through rounding) is not judged.
    """
    generator = seeded_generator(0)

    def drawn(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64, device="cpu").to(like)

    with torch.enable_grad():
        point = (0.5 + 0.2 * drawn(images)).requires_grad_()
        own = sorted(set(_own_functions(forward(parameters, point).grad_fn)))
        if not own:
            return
        way, along = drawn(images), {name: drawn(value) for name, value in parameters.items()}

        def loss(images: Tensor, tracked: Gradients = parameters) -> Tensor:
            return forward(tracked, images).square().sum()

        def slope(images: Tensor) -> Tensor:
            tracked = {name: value.detach().requires_grad_() for name, value in parameters.items()}
            found = torch.autograd.grad(
                loss(images, tracked), list(tracked.values()), create_graph=True, materialize_grads=True
            )
            return sum(
                ((one * along[name]).sum() for name, one in zip(tracked, found, strict=True)), point.new_zeros(())
            )

        try:
            wrong = _derivative_fits(loss, point, way) and not _derivative_fits(slope, point, way)
        except (RuntimeError, NotImplementedError):  # an attack raises the same, with the cause
            return
        if wrong:
            names = ", ".join(name.removesuffix("Backward") for name in own)
            raise ValueError(
                f"the backward pass of {names} cannot be differentiated: an attack would follow a wrong gradient. "
                "Write it with tensor operations on what save_for_backward returns, and without once_differentiable."
            )


def _own_functions(root: torch.autograd.graph.Node | None) -> Iterator[str]:
    """The names of all nodes of a graph whose backward pass is written in Python."""
    seen, waiting = set(), [root]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
        if issubclass(type(node), torch.autograd.function.BackwardCFunction):
            yield node.name()


def _derivative_fits(function: Callable[[Tensor], Tensor], point: Tensor, way: Tensor) -> bool:
    """Whether autograd's derivative of a scalar function along ``way`` is that of central differences."""
    value = function(point)
    if not value.requires_grad:
        expected = torch.zeros_like(value)
    else:
        [gradient] = torch.autograd.grad(value, [point], materialize_grads=True)
        expected = (gradient * way).sum()
    for step in STEPS:
        ahead, behind = function(point.detach() + step * way), function(point.detach() - step * way)
        measured = (ahead - behind).detach() / (2 * step)
        if (measured - expected).abs() <= TOLERANCE * torch.maximum(measured.abs(), expected.abs()):
            return True
    return False
