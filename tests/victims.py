"""Small victims and state checks that the tests of the client and of the attacks share."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from gilib import metrics, models
from gilib.data import Batch, Dataset
from gilib.federated import Client, Update
from gilib.iteration import IterationAttack, Reconstruction, initialization, labels, matching, optimizers


def random_batch(count: int = 2, *, channels: int = 3, size: int = 8, classes: int = 5, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, channels, size, size, generator=generator, dtype=torch.float64)
    return Batch(images, torch.randint(classes, (count,), generator=generator))


def small_convnet(*, norm: str | None = None, activation: str = "relu", seed: int = 0) -> nn.Module:
    """A float64 network with trained-looking batch-norm statistics, so that eval and train mode differ."""
    model = models.convnet(5, size=8, widths=(4, 6), norm=norm, activation=activation, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for buffer, low in ((layer.running_mean, -0.1), (layer.running_var, 0.05)):
                buffer.copy_(low + 0.2 * torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
    return model


def small_lenet(seed: int = 0) -> nn.Module:
    return models.lenet(5, size=8, seed=seed).double()


def shared_updates(model: nn.Module, count: int, **settings) -> list[Update]:
    """One update each of ``count`` clients that hold one image."""
    client = Client(model, share_labels=True, **settings)
    return [client.update(random_batch(1, seed=seed)) for seed in range(count)]


def single_images(dataset: Dataset, count: int) -> list[Batch]:
    """The first ``count`` images of a data set, each the batch of a victim of its own."""
    return [dataset.batch(index) for index in range(count)]


def updates(model: nn.Module, batches: list[Batch], **settings) -> list[Update]:
    return [Client(model, **settings).update(batch) for batch in batches]


def psnr(found: list[Reconstruction], batches: list[Batch]) -> torch.Tensor:
    """PSNR of every image of every victim, in the order of the batches."""
    return torch.cat([metrics.psnr(one.images, batch.images) for one, batch in zip(found, batches, strict=True)])


def small_attack(**changes) -> IterationAttack:
    """A short attack for small victims; any ingredient can be replaced."""
    settings = {
        "initialization": initialization.uniform(),
        "labels": labels.known(),
        "matching": matching.squared_l2(),
        "optimizer": optimizers.adam(0.05),
        "iterations": 12,
    }
    return IterationAttack(**(settings | changes))


def fingerprint(model: nn.Module) -> tuple[str, list[bool]]:
    """Parameters, their gradients, buffers and training flags."""
    digest = hashlib.sha256()
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        digest.update(f"{name} {value.requires_grad} {value.grad}".encode())
        digest.update(value.detach().numpy().tobytes())
    return digest.hexdigest(), [module.training for module in model.modules()]


@contextmanager
def nothing_changes(model: nn.Module, capfd) -> Iterator[None]:
    """Assert that a block leaves the model and the global random states alone, and prints nothing."""
    model_before, torch_before = fingerprint(model), torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    capfd.readouterr()
    yield
    assert fingerprint(model) == model_before
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert capfd.readouterr() == ("", "")


def minimize(optimizer, function, starts: torch.Tensor, iterations: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Run an optimizer on ``function(row) -> scalar``, stacked: the candidates (T, N, D) and their losses (T, N)."""
    evaluate = torch.func.vmap(torch.func.grad_and_value(function))
    stepper, candidates, trace, values = optimizer.begin(starts, iterations), starts, [], []
    for _ in range(iterations):
        gradients, losses = evaluate(candidates)
        trace.append(candidates)
        values.append(losses)
        candidates, stuck = stepper.step(candidates, losses, gradients)
        stepper.restart(stuck & False)
    return torch.stack(trace), torch.stack(values)
