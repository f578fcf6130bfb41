"""The same attack in our words and in plain PyTorch. Each returns the time at which every iteration ended."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.clock import Clock, wall
from gilib.data import Batch
from gilib.federated import Update
from gilib.iteration import IterationAttack

Times = list[float]


def stack(
    attack: IterationAttack,
    model: nn.Module,
    updates: Sequence[Update],
    iterations: int,
    *,
    compiled: bool = False,
    clock: Clock = wall,
) -> Times:
    """Our library, all victims in one stack."""
    times: Times = []
    attack = dataclasses.replace(attack, iterations=iterations)
    attack.reconstruct_many(model, updates, compiled=compiled, callback=lambda iteration, losses: times.append(clock()))
    return times


def one_by_one(
    attack: Any, model: nn.Module, batch: Batch, update: Update, iterations: int, *, clock: Clock = wall
) -> Times:
    """Plain PyTorch: a gradient of gradients for one victim, with torch's own Adam at a fixed step."""
    times: Times = []
    parameters, candidate = dict(model.named_parameters()), start(model, batch)
    labels = batch.labels.to(candidate.device)
    optimizer = torch.optim.Adam([candidate], lr=attack.optimizer.learning_rate)
    for _ in range(iterations):
        optimizer.zero_grad()
        loss = objective(attack, model, parameters, update, candidate, labels)
        [candidate.grad] = torch.autograd.grad(loss, [candidate])
        if attack.optimizer.signed:
            candidate.grad.sign_()
        optimizer.step()
        if attack.bounds is not None:
            candidate.data.clamp_(*attack.bounds)
        times.append(clock())
    return times


def start(model: nn.Module, batch: Batch) -> Tensor:
    """A grey image where the model is."""
    return torch.full_like(batch.images, 0.51, device=next(model.parameters()).device).requires_grad_()


def objective(
    attack: Any, model: nn.Module, parameters: dict[str, Tensor], update: Update, candidate: Tensor, labels: Tensor
) -> Tensor:
    """The attack's objective by plain double backward. Our matchings and priors are plain functions of tensors."""
    loss = cross_entropy(model(candidate), labels)
    gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    matched: Tensor = attack.matching(dict(zip(parameters, gradients, strict=True)), update.gradients)
    return matched + sum(prior(candidate) for prior in attack.priors)
