"""The network of the chapter's parties: one convolution, then two fully connected layers."""

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from gilib.frontiers.vertical.federation import Party, Vertical, quadrants
from gilib.models import ACTIVATIONS, blank_convolution, blank_linear, draw_weights


def four_quarters(
    classes: int = 10,
    *,
    channels: int = 3,
    size: int = 32,
    filters: int = 16,
    width: int = 64,
    embedding: int = 16,
    activation: str = "tanh",
    seed: int = 0,
) -> Vertical:
    """Four parties who hold a quarter of every image each, and a top of one fully connected layer, in float64.

    A party's network is a 3 x 3 convolution with stride 2 and ``filters`` filters, the activation, a fully connected
    layer of this ``width``, the activation, and one to the ``embedding``. Without pooling, and with as many outputs of
    the convolution as a quarter has numbers, the third shot is exact behind a smooth activation. Weights are uniform in
    ``±1/sqrt(fan_in)``. Raises ValueError for an unknown activation.

    Taught in: frontiers/vertical.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}. Use one of: {', '.join(ACTIVATIONS)}.")
    parties = []
    for number, columns in enumerate(quadrants(size, size)):
        sides = (_length(columns[1], size), _length(columns[2], size))
        outputs = filters * math.prod(math.ceil(side / 2) for side in sides)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv"] = blank_convolution(channels, filters, kernel=3, stride=2)
        layers["activation1"] = ACTIVATIONS[activation]()
        layers["flatten"] = nn.Flatten()
        layers["dense"] = blank_linear(outputs, width)
        layers["activation2"] = ACTIVATIONS[activation]()
        layers["embedding"] = blank_linear(width, embedding)
        parties.append(Party(draw_weights(nn.Sequential(layers), seed=10 * seed + number).double(), columns))
    top = nn.Sequential(OrderedDict(linear=blank_linear(4 * embedding, classes)))
    return Vertical(parties, draw_weights(top, seed=10 * seed + 9).double())


def _length(columns: slice | Sequence[int], size: int) -> int:
    return len(range(size)[columns]) if isinstance(columns, slice) else len(columns)
