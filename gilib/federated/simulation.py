"""Local training as a pure function of tensors.

The client calls ``local_update`` on its data, and an attack calls the same function on its candidate, so that both
sides run the same training. That is why the matching loss at the true input is zero.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gilib.federated.local_training import LocalTraining
from gilib.federated.losses import Loss

Gradients = dict[str, Tensor]
Forward = Callable[[Gradients, Tensor], Tensor]
HALVES = (torch.float16, torch.bfloat16)
GradientOf = Callable[[Callable[[Gradients], Tensor], Gradients], Gradients]

MAPPED_NUMBERS = 1_000_000
"""Rows times parameters up to which rows are evaluated together. Beyond, gradients leave the processor's cache."""


def by_transform(function: Callable[[Gradients], Tensor], at: Gradients) -> Gradients:
    """The gradient of ``function`` by `torch.func.grad`, which `torch.func.vmap` can map over victims."""
    return dict(torch.func.grad(function)(at))


def by_tape(function: Callable[[Gradients], Tensor], at: Gradients) -> Gradients:
    """The gradient of ``function`` by `torch.autograd.grad`, differentiable again: faster where nothing is mapped."""
    with torch.enable_grad():
        tracked = {
            name: value if value.requires_grad else value.detach().requires_grad_() for name, value in at.items()
        }
        found = torch.autograd.grad(
            function(tracked), list(tracked.values()), create_graph=True, materialize_grads=True
        )
    return dict(zip(tracked, found, strict=True))


def local_update(
    forward: Forward,
    parameters: Gradients,
    images: Tensor,
    targets: Tensor,
    *,
    loss: Loss,
    local: LocalTraining,
    gradient_of: GradientOf = by_transform,
) -> Gradients:
    """The parameter change of local training divided by minus the learning rate.

    For plain SGD that is the sum of the gradients of all steps. Differentiable in ``images`` (B, C, H, W) and
    ``targets`` (B, K), and safe under ``torch.func.vmap`` with ``gradient_of=by_transform``. A secret order is not
    known here: the plain one is used.

    Source: Geiping et al. (2020), section 6 (federated averaging). Taught in: foundations/federated_learning.
    """
    if local.single and local.clip is None:
        return gradient_of(lambda current: loss(forward(current, images), targets), parameters)
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for _, _, total in training_steps(  # noqa: B007 - the last total is what is asked for
        forward, parameters, images, targets, loss=loss, local=local, gradient_of=gradient_of
    ):
        pass
    return total


def training_steps(
    forward: Forward,
    parameters: Gradients,
    images: Tensor,
    targets: Tensor,
    *,
    loss: Loss,
    local: LocalTraining,
    gradient_of: GradientOf = by_transform,
) -> Iterator[tuple[Gradients, Tensor, Gradients]]:
    """Each local step: the parameters before it, the samples (int64) it uses, and the total change after it.

    The change is divided by minus the learning rate.
    """
    optimizer = Optimizer(local)
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for chosen in local.batches(len(images)):
        current = {name: value - local.learning_rate * total[name] for name, value in parameters.items()}
        used = chosen.to(images.device)
        gradient = batch_gradient(
            forward, current, images[used], targets[used], loss=loss, clip=local.clip, gradient_of=gradient_of
        )
        change = optimizer.direction(gradient, current)
        total = {name: total[name] + change[name] for name in total}
        yield current, used, total


def batch_gradient(
    forward: Forward,
    current: Gradients,
    images: Tensor,
    targets: Tensor,
    *,
    loss: Loss,
    clip: float | None,
    gradient_of: GradientOf,
) -> Gradients:
    """The gradient of one step on a batch: of its loss, or with ``clip`` the mean of its samples' clipped gradients."""
    if clip is None:
        return gradient_of(lambda at: loss(forward(at, images), targets), current)

    def clipped(image: Tensor, target: Tensor) -> Gradients:
        one = gradient_of(lambda at: loss(forward(at, image[None]), target[None]), current)
        values = [value.float() if value.dtype in HALVES else value for value in one.values()]  # squares underflow
        tiny = torch.finfo(values[0].dtype).tiny  # keeps the slope of the root finite at zero
        norm = (torch.stack([value.square().sum() for value in values]).sum() + tiny).sqrt()
        share = (clip / norm).clamp(max=1)
        return {name: value * share.to(value.dtype) for name, value in one.items()}

    if gradient_of is by_transform:
        each = torch.func.vmap(clipped)(images, targets)
        return {name: value.mean(dim=0) for name, value in each.items()}
    samples = [clipped(image, target) for image, target in zip(images, targets, strict=True)]
    return {name: torch.stack([one[name] for one in samples]).mean(dim=0) for name in current}


class Optimizer:
    """One client's optimizer during one round: SGD with momentum, Adam or AdamW, as `torch.optim` has them."""

    def __init__(self, local: LocalTraining) -> None:
        self.local, self.steps = local, 0
        self.first: Gradients = {}
        self.second: Gradients = {}

    def direction(self, gradient: Gradients, current: Gradients) -> Gradients:
        """What a step subtracts from each parameter, divided by the learning rate."""
        local, decay = self.local, self.local.weight_decay
        self.steps += 1
        if decay and local.optimizer != "adamw":
            gradient = {name: value + decay * current[name] for name, value in gradient.items()}
        step = self._momentum(gradient) if local.optimizer == "sgd" else self._adam(gradient)
        if decay and local.optimizer == "adamw":
            step = {name: value + decay * current[name] for name, value in step.items()}
        return step

    def _momentum(self, gradient: Gradients) -> Gradients:
        local = self.local
        if not local.momentum:
            return gradient
        self.first = {
            name: local.momentum * self.first[name] + (1 - local.dampening) * value if self.first else value
            for name, value in gradient.items()
        }
        if not local.nesterov:
            return self.first
        return {name: value + local.momentum * self.first[name] for name, value in gradient.items()}

    def _adam(self, gradient: Gradients) -> Gradients:
        (one, two), steps = self.local.betas, {}
        for name, value in gradient.items():
            zero = torch.zeros_like(value)
            self.first[name] = one * self.first.get(name, zero) + (1 - one) * value
            self.second[name] = two * self.second.get(name, zero) + (1 - two) * value.square()
            tiny = torch.finfo(value.dtype).tiny  # keeps the slope of the root finite at zero
            spread = (self.second[name] + tiny).sqrt() / (1 - two**self.steps) ** 0.5
            steps[name] = self.first[name] / (1 - one**self.steps) / (spread + self.local.eps)
        return steps


def gradient_weights(local: LocalTraining, samples: int) -> list[float] | None:
    """How much each local step's gradient counts in the update: all 1 for plain SGD, more for early ones with momentum.

    None for an optimizer whose step is not linear in the gradient (Adam). Weight decay adds to the update apart from
    the gradients, and is not counted here.
    """
    if local.optimizer != "sgd":
        return None
    count, optimizer = local.count(samples), Optimizer(local)
    total = torch.zeros(count, dtype=torch.float64, device="cpu")
    for unit in torch.eye(count, dtype=torch.float64, device="cpu"):
        total = total + optimizer._momentum({"": unit})[""]
    weights: list[float] = total.tolist()
    return weights
