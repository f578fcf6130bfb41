"""The defenses of the matrix, with their settings."""

from functools import partial

from torch import nn

from gilib.defenses import obscuration, privacy
from gilib.defenses.gradient import pruning, quantization, sign_compression, soteria, top_k
from gilib.defenses.local_training import local_iterations
from gilib.defenses.model import dropout, precode, secret_branch
from gilib.iteration import matching
from gilib.iteration.hidden import searched
from gilib.iteration.labels import known
from gilib.iteration.priors import total_variation
from gilib.matrix.attacks import Adaptation
from gilib.matrix.defenses import Branch, DefenseEntry, Encrypted, Mixed, Narrow, Owing, Summed, Transformed
from gilib.models import blank_convolution, blank_linear, draw_weights, mlp

_POLICY = (obscuration.Transformation("shift down", 0.125), obscuration.Transformation("rotate", 20))
_PARTS = ("bottleneck.encode", "bottleneck.decode", "layer")
# The weights of the prior serve best on digits that the attacker has.
_LITTLE_NOISE, _MUCH_NOISE = Adaptation(priors=(total_variation(0.01),)), Adaptation(priors=(total_variation(0.06),))

_SENT, _TWO_BITS = Adaptation(matching.sent_only), Adaptation(partial(matching.within_quantized, bits=2), staged=True)
_SIGNS = Adaptation(matching.within_signs, staged=True)
_WITHOUT_LAST = Adaptation(partial(matching.weighted, weights={"linear.weight": 0.0}))
_STOCHASTIC = [f"linear.{part}.{kind}" for part in _PARTS for kind in ("weight", "bias")]
_BEFORE_BOTTLENECK = Adaptation(partial(matching.weighted, weights=dict.fromkeys(_STOCHASTIC, 0.0)), draws=searched())


def patches(filters: int) -> nn.Module:
    """A convolution of 2 x 2 pixels side by side, tanh, and the classifier: for digits of 8 x 8 pixels.

    Up to three filters its gradient has fewer independent numbers than the digit has pixels (defenses/model).
    """
    layers = nn.Sequential(
        blank_convolution(1, filters, kernel=2, stride=2, padding=0),
        nn.Tanh(),
        nn.Flatten(),
        blank_linear(16 * filters, 10),
    )
    return draw_weights(layers, seed=0).double()


_NARROW = (
    ("LeNet", patches(3)),
    ("ConvNet", patches(3)),
    ("MLP", mlp(channels=1, size=8, hidden=(3,)).double()),
)

DEFENSES: tuple[DefenseEntry, ...] = (
    DefenseEntry("None", "none"),
    Mixed("MixUp", "obscuration", "4 images, 16 rounds", (obscuration.mixup(4, classes=10),), seen=16),
    Mixed(
        "InstaHide", "obscuration", "4 images, 80 rounds", (obscuration.instahide(4, classes=10),), rounds=1200, seen=80
    ),
    Transformed("ATS", "obscuration", "shifted and rotated", (obscuration.transformations(*_POLICY),)),
    DefenseEntry(
        "Local iterations",
        "local training",
        "10 steps of 0.05",
        (local_iterations(10, learning_rate=0.05),),
        momentum=0.0,
    ),
    DefenseEntry("Plain noise", "perturbation", "std 0.01", (privacy.gaussian_noise(0.01),), _LITTLE_NOISE),
    DefenseEntry("DP-SGD, weak", "perturbation", "clip 1, noise 0.1", (privacy.dp_sgd(1.0, 0.1),), _MUCH_NOISE),
    DefenseEntry("DP-SGD", "perturbation", "clip 1, noise 1", (privacy.dp_sgd(1.0, 1.0),), _MUCH_NOISE),
    DefenseEntry("Pruning 90 %", "compression", "90 % of each tensor", (pruning(0.9),), _SENT, bits=None),
    DefenseEntry("Pruning 99 %", "compression", "99 % of each tensor", (pruning(0.99),), _SENT, bits=None),
    Owing("Top-k", "compression", "1 % with error feedback, 100 rounds", (top_k(0.01),), _SENT, bits=None, seen=100),
    DefenseEntry("Quantization", "compression", "2 bits", (quantization(2),), _TWO_BITS, bits=2),
    DefenseEntry("Signs", "compression", "1 bit, scaled", (sign_compression(),), _SIGNS, bits=1),
    DefenseEntry("Soteria", "compression", "80 % of the last layer's columns", (soteria(0.8),), _WITHOUT_LAST),
    DefenseEntry("Dropout", "model", "half of the features", (dropout(0.5),), Adaptation(draws=searched())),
    DefenseEntry("PRECODE", "model", "bottleneck of 16", (precode(16),), _BEFORE_BOTTLENECK),
    Narrow(
        "Fewer filters",
        "model",
        "3 filters or neurons",
        (),
        Adaptation(priors=(total_variation(0.01),)),
        networks=_NARROW,
    ),
    Branch("Secret branch", "model", "32 hidden units", (secret_branch(64),), Adaptation(labels=known())),
    Summed("Secure aggregation", "protocol", "8 people"),
    Encrypted("Encryption", "protocol", "CKKS, 4096"),
)
"""The columns of the matrix, from no defense to encryption."""
