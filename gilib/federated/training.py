"""Training by the server: victims of a stated stage, and what defenses leave of the learning."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from gilib.data import Batch
from gilib.draws import seeded_generator
from gilib.federated.client import Client
from gilib.federated.functional import copied


def train(
    model: nn.Module,
    batch: Batch,
    *,
    stages: Sequence[int],
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[int, nn.Module]:
    """Train a copy of the model by SGD on ``batch``, and return copies of it after each of ``stages`` steps.

    This is how the book makes victims of a stated training stage: stage 0 is the untrained model. Each step draws
    ``batch_size`` samples without replacement from a generator of its own; batch norm works in train mode. In float64
    the weights agree across CPU types to about ten digits after a few hundred steps, in float32 to none. The models
    returned are in eval mode. Raises ValueError for stages that do not rise from 0 or more, and for loss values that
    are not finite.

    Taught in: iteration/training.
    """
    if list(stages) != sorted(set(stages)) or not stages or stages[0] < 0:
        raise ValueError(f"stages must be rising numbers of steps, from 0 or more; got {list(stages)}.")
    trained, taken = copied(model).train(), {}
    optimizer = torch.optim.SGD(trained.parameters(), lr=learning_rate, momentum=momentum)
    generator = seeded_generator(seed)
    images = batch.inputs.to(next(trained.parameters()))
    labels = batch.labels.to(images.device)
    for step in range(stages[-1]):
        if step in stages:
            taken[step] = copied(trained).eval()
        chosen = torch.randperm(len(images), generator=generator, device="cpu")[:batch_size].to(images.device)
        loss = nn.functional.cross_entropy(trained(images[chosen]), labels[chosen])
        if not loss.isfinite():
            raise ValueError(f"the training loss is {loss.item()} at step {step}: lower learning_rate={learning_rate}.")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    taken[stages[-1]] = copied(trained).eval()
    return taken


def fit(
    client: Client,
    batch: Batch,
    *,
    rounds: int,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    batch_size: int = 32,
    seed: int = 0,
) -> nn.Module:
    """Train by rounds of defended updates, and return the model: what the defenses leave of the training.

    In each round the client computes its update on ``batch_size`` samples drawn without replacement, with its defenses
    and their draws of that round, and the server takes a step of SGD with momentum. The client's model is where the
    training begins, improved by its defenses. Returns a copy in eval mode. Raises ValueError if an update stops being
    finite.

    Taught in: defenses/privacy.
    """
    trained = copied(client.improved())
    parameters = {name: value for name, value in trained.named_parameters() if value.requires_grad}
    velocity = {name: torch.zeros_like(value) for name, value in parameters.items()}
    generator = seeded_generator(seed)
    for number in range(rounds):
        chosen = torch.randperm(len(batch), generator=generator, device="cpu")[:batch_size].to(batch.inputs.device)
        sample = replace(batch, images=batch.inputs[chosen], labels=batch.labels[chosen])
        update = replace(client, model=trained).update(sample, round=number)
        for name, value in update.gradients.items():
            if not value.isfinite().all():
                raise ValueError(f"round {number} gave gradients that are not finite: lower {learning_rate=}.")
            velocity[name] = momentum * velocity[name] + value
            with torch.no_grad():
                parameters[name].sub_(learning_rate * velocity[name])
    return trained.eval()
