"""The same attack run in four ways. Each returns the time at which every iteration ended, in seconds."""

import dataclasses
import time
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gilib.data import Batch
from gilib.federated import Update
from gilib.iteration import IterationAttack

Times = list[float]


def stack(
    attack: IterationAttack, model: nn.Module, updates: Sequence[Update], iterations: int, *, compiled: bool = False
) -> Times:
    """Our library, all victims in one stack."""
    times: Times = []
    attack = dataclasses.replace(attack, iterations=iterations)
    attack.reconstruct_many(
        model, updates, compiled=compiled, callback=lambda iteration, losses: times.append(time.perf_counter())
    )
    return times


def one_by_one(attack: IterationAttack, model: nn.Module, batch: Batch, update: Update, iterations: int) -> Times:
    """Plain PyTorch: a gradient of gradients for one victim, with torch's own Adam at a fixed step."""
    times: Times = []
    parameters = list(model.parameters())
    shared = [update.gradients[name] for name, _ in model.named_parameters()]
    candidate = torch.full_like(batch.images, 0.5).add_(0.01).requires_grad_()
    optimizer = torch.optim.Adam([candidate], lr=attack.optimizer.learning_rate)
    for _ in range(iterations):
        optimizer.zero_grad()
        loss = objective(attack, model, parameters, shared, candidate, batch.labels)
        [candidate.grad] = torch.autograd.grad(loss, [candidate])
        if attack.optimizer.signed:
            candidate.grad.sign_()
        optimizer.step()
        if attack.bounds is not None:
            candidate.data.clamp_(*attack.bounds)
        times.append(time.perf_counter())
    return times


def objective(attack, model, parameters, shared, candidate, labels) -> torch.Tensor:
    """The attack's objective by plain double backward. Our matchings and priors are plain functions of tensors."""
    gradients = torch.autograd.grad(cross_entropy(model(candidate), labels), parameters, create_graph=True)
    guess, truth = dict(enumerate(gradients)), dict(enumerate(shared))
    return attack.matching(guess, truth) + sum(prior(candidate) for prior in attack.priors)
