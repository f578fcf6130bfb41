"""The defenses of the matrix, with their settings."""

from functools import partial

from torch import nn

from gilib import models
from gilib.defenses import obscuration, privacy
from gilib.defenses.gradient import pruning, quantization, sign_compression, soteria, top_k
from gilib.defenses.local_training import local_iterations
from gilib.defenses.model import dropout
from gilib.iteration import matching
from gilib.iteration.hidden import searched
from gilib.iteration.labels import known
from gilib.iteration.priors import total_variation
from gilib.matrix.attacks import Adaptation
from gilib.matrix.defenses import Branch, DefenseEntry, Transformed
from gilib.matrix.mixing import Mixed
from gilib.matrix.networks import Bottlenecked, Narrow, divergent, patches
from gilib.matrix.rounds import Owed
from gilib.matrix.sums import Encrypted, Noisy, Summed

NOISE = 0.5
"""The noise of the three rows of DP-SGD, in one place: the standard deviation of what is looked at, clip being 1."""

CLIP = 1.0


def lenet(seed: int, width: int = 8) -> nn.Module:
    """For digits: 3,754 numbers at width 8, 59 for each pixel."""
    return models.lenet(channels=1, size=8, width=width, activation="tanh", bound=0.15, seed=seed).double()


def wide_lenet(seed: int) -> nn.Module:
    """13,978 numbers, 218 for each pixel."""
    return lenet(seed, 16)


def widest_lenet(seed: int) -> nn.Module:
    """53,866 numbers, 842 for each pixel."""
    return lenet(seed, 32)


def convnet(seed: int) -> nn.Module:
    """With activations that can be inverted, as R-GAP needs them."""
    return models.convnet(channels=1, size=8, widths=(8, 16), activation="leaky_relu", seed=seed).double()


def dense(seed: int, neurons: int = 200) -> nn.Module:
    """Neurons that see the pixels as they are."""
    return models.mlp(channels=1, size=8, hidden=(neurons,), seed=seed).double()


def photo_lenet(seed: int, width: int = 12) -> nn.Module:
    """For colour photographs of 32 x 32."""
    return models.lenet(width=width, activation="tanh", bound=0.15, seed=seed)


def photo_resnet(seed: int, width: int = 16) -> nn.Module:
    """ResNet-8 with ReLU. Its batch norms work with the statistics it came with, since a client of one has none."""
    return models.resnet(blocks=1, width=width, seed=seed)


def three_patches(seed: int) -> nn.Module:
    """Three filters of 2 x 2 pixels."""
    return patches(3, seed)


def three_neurons(seed: int) -> nn.Module:
    """Three neurons instead of 200."""
    return dense(seed, 3)


def narrow_photo_lenet(seed: int) -> nn.Module:
    """Three filters instead of twelve."""
    return photo_lenet(seed, 3)


def narrow_photo_resnet(seed: int) -> nn.Module:
    """Four filters instead of sixteen."""
    return photo_resnet(seed, 4)


_NARROW = (
    (lenet, three_patches),
    (convnet, three_patches),
    (dense, three_neurons),
    (photo_lenet, narrow_photo_lenet),
    (photo_resnet, narrow_photo_resnet),
)
_POLICY = (obscuration.Transformation("shift down", 0.125), obscuration.Transformation("rotate", 20))
_STOCHASTIC = tuple(
    f"linear.{part}.{kind}"
    for part in ("bottleneck.encode", "bottleneck.decode", "layer")
    for kind in ("weight", "bias")
)
# The weights of the prior serve best on digits that the attacker has.
_LITTLE_NOISE = Adaptation(priors=(total_variation(0.01),), in_box=True)
_MUCH_NOISE = Adaptation(priors=(total_variation(0.06),), in_box=True)
_SENT = Adaptation(matching.sent_only, in_box=True)
_OWED = Adaptation(matching.sent_only, over_rounds=Owed, in_box=True)
_TWO_BITS = Adaptation(partial(matching.within_quantized, bits=2), staged=True)
_SIGNS = Adaptation(matching.within_signs, staged=True)

DEFENSES: tuple[DefenseEntry, ...] = (
    DefenseEntry("None", "none"),
    Mixed("MixUp", "obscuration", "4 images of a class each", (obscuration.mixup(4, classes=10),)),
    Mixed("InstaHide", "obscuration", "4 images of a class each", (obscuration.instahide(4, classes=10),), longer=12),
    Transformed("ATS", "obscuration", "shifted and rotated", (obscuration.transformations(*_POLICY),)),
    DefenseEntry(
        "Local iterations",
        "local training",
        "10 steps of 0.05",
        (local_iterations(10, learning_rate=0.05),),
        rate=1 / 3,
        alike=False,
    ),
    DefenseEntry(
        "Plain noise", "perturbation", "std 0.01", (privacy.gaussian_noise(0.01),), _LITTLE_NOISE, alike=False
    ),
    DefenseEntry("Clipping", "perturbation", "clip 1, no noise", (privacy.dp_sgd(CLIP, 0.0),)),
    DefenseEntry(
        "DP-SGD, local",
        "perturbation",
        f"clip 1, noise {NOISE:g} each",
        (privacy.dp_sgd(CLIP, NOISE),),
        _MUCH_NOISE,
        rate=1 / 3,
        alike=False,
    ),
    Noisy(
        "DP-SGD, central",
        "perturbation",
        f"clip 1, noise {NOISE:g} on the sum",
        (privacy.dp_sgd(CLIP, 0.0),),
        _MUCH_NOISE,
        noise=NOISE,
        adversary="whoever sees what a trusted aggregator publishes",
    ),
    Noisy(
        "DP-SGD, distributed",
        "protocol",
        f"clip 1, noise {NOISE:g} on the sum",
        (privacy.dp_sgd(CLIP, 0.0),),
        _MUCH_NOISE,
        noise=NOISE,
        distributed=True,
        adversary="the server, which sees the sum",
    ),
    DefenseEntry("Pruning 90 %", "compression", "90 % of each tensor", (pruning(0.9),), _SENT, bits=None, alike=False),
    DefenseEntry("Pruning 99 %", "compression", "99 % of each tensor", (pruning(0.99),), _SENT, bits=None, alike=False),
    DefenseEntry("Top-k", "compression", "1 % with error feedback", (top_k(0.01),), _OWED, bits=None, alike=False),
    DefenseEntry("Quantization", "compression", "2 bits", (quantization(2),), _TWO_BITS, 1 / 3, bits=2, alike=False),
    DefenseEntry("Signs", "compression", "1 bit, scaled", (sign_compression(),), _SIGNS, bits=1, alike=False),
    DefenseEntry(
        "Soteria",
        "compression",
        "80 % of the last layer's columns",
        (soteria(0.8),),
        Adaptation(ignored=("linear.weight",)),
        alike=False,
    ),
    DefenseEntry("Dropout", "model", "half of the features", (dropout(0.5),), Adaptation(draws=searched()), 1 / 3),
    Bottlenecked(
        "PRECODE",
        "model",
        "bottleneck of 16, divergence",
        (),
        Adaptation(ignored=_STOCHASTIC, draws=searched()),
        loss=divergent,
    ),
    Narrow(
        "Fewer filters",
        "model",
        "3 filters or neurons",
        (),
        Adaptation(priors=(total_variation(0.01),)),
        networks=_NARROW,
    ),
    Branch("Secret branch", "model", "32 hidden units", (), Adaptation(labels=known())),
    Summed("Secure aggregation", "protocol", "the people of a round", adversary="the server, which sees the sum"),
    Encrypted("Encryption", "protocol", "CKKS, 4096", adversary="the server, which has no key"),
)
"""The rows of the matrix, from no defense to encryption."""
