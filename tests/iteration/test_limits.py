"""The client's self-check: the Jacobian of its gradient and how much errors grow on the way back to the pixels."""

import math

import pytest
import torch
from torch import nn
from victims import nothing_changes, random_batch, small_convnet, small_lenet

from gilib.data import Batch
from gilib.federated import Client, LocalTraining
from gilib.iteration.limits import error_amplification
from gilib.jacobian import jacobian
from gilib.metrics import psnr


def flat(client: Client, batch: Batch) -> torch.Tensor:
    return torch.cat([part.flatten() for part in client.update(batch).gradients.values()])


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("count", [1, 2])
def test_jacobian_is_the_derivative_of_the_update(steps, count):
    client = Client(small_lenet(), local=LocalTraining(steps=steps, learning_rate=0.1))
    batch = random_batch(count)
    shared, derivative = jacobian(client, batch)
    torch.testing.assert_close(shared, flat(client, batch))
    assert derivative.shape == (len(shared), batch.images.numel())
    for pixel in (0, 100, batch.images.numel() - 1):
        shift = torch.zeros_like(batch.images).flatten()
        shift[pixel] = 1e-5
        shift = shift.reshape(batch.images.shape)
        ends = [flat(client, Batch((batch.images + sign * shift).clamp(0, 1), batch.labels)) for sign in (1, -1)]
        torch.testing.assert_close(derivative[:, pixel], (ends[0] - ends[1]) / 2e-5, atol=1e-6, rtol=1e-4)


def test_jacobian_follows_the_mode_of_batch_norm():
    model, batch = small_convnet(norm="batch", activation="tanh"), random_batch(3)
    parts = {mode: jacobian(Client(model, mode=mode), batch) for mode in ("eval", "train")}
    for mode, (shared, _) in parts.items():
        torch.testing.assert_close(shared, flat(Client(model, mode=mode), batch))
    assert not torch.allclose(parts["eval"][1], parts["train"][1])


def test_amplification_is_the_error_of_the_best_linear_estimate():
    """Least squares on a noisy direction has the mean squared error that the bound promises."""
    client, batch = Client(small_lenet()), random_batch(2)
    shared, derivative = jacobian(client, batch)
    unit = shared / shared.norm()
    turning = (derivative - torch.outer(unit, unit @ derivative)) / shared.norm()
    noise = torch.randn(len(shared), 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = torch.linalg.lstsq(turning, noise).solution.reshape(2, -1, 200)
    torch.testing.assert_close(error_amplification(client, batch), errors.square().mean(dim=(1, 2)), rtol=0.2, atol=0)


def test_amplification_does_not_change_with_the_scale_of_the_loss():
    batch, model = random_batch(2), small_lenet()
    whole = Client(model)
    half = Client(model, loss=lambda logits, targets: 0.5 * whole.loss(logits, targets))
    torch.testing.assert_close(error_amplification(whole, batch), error_amplification(half, batch))


def test_amplification_follows_the_order_of_the_batch():
    batch, client = random_batch(3), Client(small_lenet())
    turned = Batch(batch.images.flip(0), batch.labels.flip(0))
    expected = error_amplification(client, batch).flip(0)
    torch.testing.assert_close(error_amplification(client, turned), expected)


def test_twins_are_not_determined():
    """Two equal samples can move against each other unseen."""
    one = random_batch(1)
    twins = Batch(one.images.repeat(2, 1, 1, 1), one.labels.repeat(2))
    client = Client(small_lenet())
    assert error_amplification(client, one).isfinite().all()
    assert error_amplification(client, twins).isinf().all()


def test_too_few_equations_are_not_determined():
    narrow = nn.Sequential(nn.Flatten(), nn.Linear(192, 2), nn.Tanh(), nn.Linear(2, 5)).double()
    for name, parameter in narrow.named_parameters():
        parameter.requires_grad = name.startswith("3")
    [value] = error_amplification(Client(narrow), random_batch(1)).tolist()
    assert value == math.inf


def test_refuses_a_gradient_without_direction():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 1)).double()
    with pytest.raises(ValueError, match="is zero and has no direction"):
        error_amplification(Client(model), random_batch(1, classes=1))


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="does not take images"):
        jacobian(Client(small_convnet()), random_batch(1, channels=1))
    with pytest.raises(ValueError, match="labels must lie in"):
        jacobian(Client(small_lenet()), Batch(random_batch(1).images, torch.tensor([9])))


def test_nothing_changes(capfd):
    model, batch = small_convnet(norm="batch", activation="tanh"), random_batch(2)
    with nothing_changes(model, capfd):
        error_amplification(Client(model, mode="train"), batch)


def test_agrees_with_psnr_in_scale():
    """An estimate with the promised error has the promised PSNR."""
    batch = random_batch(1)
    variance = 1e-6 * error_amplification(Client(small_lenet()), batch)
    noise = torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noisy = (batch.images + variance.sqrt() * noise).clamp(0, 1)
    assert (psnr(noisy, batch.images) + 10 * variance.log10()).abs() < 1.5
