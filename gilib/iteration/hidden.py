"""What the attacker assumes of layers that drew at random at the client: dropout masks, the noise of a bottleneck.

The server knows the layers and not what they drew. It can compute without draws, draw for itself, or search for the
draws as it searches for the image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.draws import sample_draws
from gilib.federated import seeded_generator


@dataclass(frozen=True)
class HiddenDraws:
    """The attacker's assumption: ``seed`` of draws of its own, None for no draws; ``searched`` to optimize them."""

    seed: int | None
    searched: bool

    def guess(self, model: nn.Module, images: Tensor, *, rows: int) -> dict[str, Tensor]:
        """Draws for every row: name of the layer's buffer to draws (rows, B, ...). Empty where there are none."""
        if self.seed is None and not self.searched:
            return {}
        keys = [(self.seed or 0, 1, row) for row in range(rows)]  # three numbers, so never the stream of a client
        each = [sample_draws(model, images, seeded_generator(*key)) for key in keys]
        return {name: torch.stack([draws[name] for draws in each]) for name in each[0]}


def expected() -> HiddenDraws:
    """Compute as in evaluation, without draws: what an attacker does who does not think of them."""
    return HiddenDraws(seed=None, searched=False)


def guessed(seed: int = 0) -> HiddenDraws:
    """Draw as the client did, with other luck: one draw for each victim and restart, which stays."""
    return HiddenDraws(seed=seed, searched=False)


def searched() -> HiddenDraws:
    """Search for the draws together with the images, from random starts: the adaptive attack.

    A layer's ``relax`` keeps what is searched within what the layer can draw.

    Known as: search for hidden draws (ingredient). Needs to know which layers of the client draw.
    Source: the idea of Scheliga et al. (2023) for dropout masks. Taught in: defenses/model.
    """
    return HiddenDraws(seed=None, searched=True)
