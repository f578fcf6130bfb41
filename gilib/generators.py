"""Small image generators: what an attacker with data like the victim's can train on a CPU in seconds."""

import copy
import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from gilib.federated import seeded_generator
from gilib.models import blank_convolution, blank_linear, draw_weights

__all__ = ["decoder", "train_decoder"]


def decoder(latent: int = 16, *, channels: int = 1, size: int = 8, width: int = 16, seed: int = 0) -> nn.Sequential:
    """A network from codes (B, latent) to images (B, channels, size, size) in [0, 1].

    A linear layer makes ``2 * width`` maps at a quarter of the size, two steps double them and convolve, a sigmoid ends
    it. Weights and biases are uniform in ``±1/sqrt(fan_in)``, in float32. Raises ValueError for sizes that are not
    multiples of four.

    Taught in: iteration/generative.
    """
    if size % 4 or size < 4:
        raise ValueError(
            f"decoder() doubles the resolution twice: expected a size that is a multiple of 4, got {size}."
        )
    small = size // 4
    layers = OrderedDict(
        linear=blank_linear(latent, 2 * width * small**2),
        activation0=nn.LeakyReLU(0.2),
        unflatten=nn.Unflatten(1, (2 * width, small, small)),
        up1=nn.Upsample(scale_factor=2),
        conv1=blank_convolution(2 * width, width, kernel=3, stride=1),
        activation1=nn.LeakyReLU(0.2),
        up2=nn.Upsample(scale_factor=2),
        conv2=blank_convolution(width, channels, kernel=3, stride=1),
        sigmoid=nn.Sigmoid(),
    )
    return draw_weights(nn.Sequential(layers), seed=seed)


def train_decoder(
    network: nn.Module,
    images: Tensor,
    *,
    latent: int,
    steps: int = 1500,
    learning_rate: float = 3e-3,
    batch_size: int = 32,
    prior_weight: float = 1e-3,
    seed: int = 0,
) -> nn.Module:
    """Train a copy of ``network`` as the decoder of a variational autoencoder on ``images`` (N, C, H, W) in [0, 1].

    The encoder is one hidden layer; it is thrown away. ``prior_weight`` weighs the Kullback-Leibler term, which makes
    codes (B, ``latent``) drawn from a standard normal decode to images like the training data. Training runs in float64
    and draws from ``seed`` alone, so that the weights agree across CPU types to about ten digits; the copy that is
    returned is float64, frozen and in eval mode.

    Source: Kingma & Welling (2014). Taught in: iteration/generative.
    """
    trained = copy.deepcopy(network).double().train().requires_grad_(True)
    encoder = _encoder(math.prod(images.shape[1:]), latent, seed=seed)
    optimizer = torch.optim.Adam([*trained.parameters(), *encoder.parameters()], lr=learning_rate)
    generator = seeded_generator(seed)
    for _ in range(steps):
        batch = images[torch.randint(len(images), (batch_size,), generator=generator, device="cpu")].double()
        mean, logarithm = encoder(batch).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64, device="cpu")
        drawn = trained(mean + noise * (0.5 * logarithm).exp())
        error = (drawn - batch).square().flatten(1).mean(dim=1)
        divergence = 0.5 * (mean.square() + logarithm.exp() - 1 - logarithm).sum(dim=1)
        loss = (error + prior_weight * divergence).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return trained.eval().requires_grad_(False)


def _encoder(pixels: int, latent: int, *, seed: int) -> nn.Module:
    """From images to the mean and the logarithm of the variance of each latent number, (B, 2 * latent)."""
    layers = OrderedDict(
        flatten=nn.Flatten(),
        linear1=blank_linear(pixels, 256),
        activation=nn.ReLU(),
        linear2=blank_linear(256, 2 * latent),
    )
    return draw_weights(nn.Sequential(layers), seed=seed).double()
