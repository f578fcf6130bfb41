"""What a server with images of the kind has of them: a generator that draws such images (threat model D)."""

import time
from dataclasses import dataclass

from torch import Tensor, nn

from gilib.generators import decoder, train_decoder

LATENT = 16
STEPS = 1500
"""Steps that train a generator, unless time is short."""
MISSING = (
    "not tried: this server has images of the kind, and none were given. Give them with --public FOLDER "
    "(Target(public=...)), or give the target a function generator() that returns a network from codes to images, and "
    "the length of a code."
)


@dataclass(frozen=True, eq=False)
class Generator:
    """A ``network`` from codes (B, ``latent``) to images (B, C, H, W) in [0, 1], trained on none of the victims'."""

    network: nn.Module
    latent: int

    def __post_init__(self) -> None:
        if not isinstance(self.network, nn.Module) or not isinstance(self.latent, int) or self.latent < 1:
            raise ValueError(
                "expected a generator as a network (nn.Module) and the length of its codes, a whole number of at least "
                f"1; got a {type(self.network).__name__} and {self.latent!r}."
            )


def learned(images: Tensor, *, seconds: float | None = None) -> Generator:
    """A generator trained on public ``images`` (N, C, H, W), for `STEPS` steps or about so many seconds.

    Raises ValueError for images whose side is no multiple of four.
    """
    _, channels, size, width = images.shape
    if size != width:
        raise ValueError(f"the generator that is trained here draws squares, and the images are {size} x {width}.")
    fresh = decoder(LATENT, channels=channels, size=size)
    steps = STEPS
    if seconds is not None:
        train_decoder(fresh, images, latent=LATENT, steps=2)  # the first steps take longer than the others
        began = time.perf_counter()
        train_decoder(fresh, images, latent=LATENT, steps=5)
        steps = max(5, min(STEPS, int(5 * seconds / (time.perf_counter() - began))))
    return Generator(train_decoder(fresh, images, latent=LATENT, steps=steps), LATENT)
