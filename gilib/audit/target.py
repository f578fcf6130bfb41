"""What is audited: a client with its model and defenses, and the images that it is tried on."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gilib.audit.surrogate import Generator
from gilib.data import Batch, Dataset
from gilib.defenses.model import Branched, public_gradients
from gilib.federated import Client, Update, copied, seeded_generator

Made = TypeVar("Made")
CROWD = 256
"""At most so many images among which a reconstruction has to find its own."""


@dataclass(frozen=True)
class Target:
    """A client, and images to try it on: ``victims`` clients of ``batch`` images each, the first of ``images``.

    ``client`` is as it is deployed: its model, how it trains, what it defends itself with. All other images are the
    crowd in which a person is *named*. ``untrained`` builds the same network before training; unless given, the layers
    of a copy draw their weights anew. ``sent`` are updates that were received from real clients instead of being
    computed here, in the order of the batches. ``public`` are images of the kind, or ``generator`` draws them, for a
    server that has such (threat model D). Raises ValueError where there are too few images, or updates, and where
    public images have another shape or are a victim's own.
    """

    client: Client
    images: Dataset
    batch: int = 1
    victims: int = 4
    untrained: Callable[[], nn.Module] | None = None
    sent: Sequence[Update] = ()
    public: Dataset | None = None
    generator: Generator | None = None

    def __post_init__(self) -> None:
        if self.batch < 1 or self.victims < 1:
            raise ValueError(f"expected at least one image and one victim, got {self.batch} and {self.victims}.")
        needed = self.batch * self.victims + 1
        if len(self.images) < needed:
            raise ValueError(
                f"expected at least {needed} images, {self.victims} victims of {self.batch} and one more to tell them "
                f"from; got {len(self.images)}. Give more images, or fewer victims."
            )
        if self.sent and len(self.sent) != self.victims:
            raise ValueError(f"expected one received update for each of {self.victims} victims, got {len(self.sent)}.")
        if self.public is not None:
            self._check_public(self.public.images)

    def _check_public(self, public: Tensor) -> None:
        if public.shape[1:] != self.images.images.shape[1:]:
            raise ValueError(
                f"expected public images of the victims' shape {tuple(self.images.images.shape[1:])}, got "
                f"{tuple(public.shape[1:])}. Scale them alike."
            )
        if any(bool((public == own).flatten(1).all(dim=1).any()) for own in self.truth):
            raise ValueError("the public images hold a victim's own image: an attacker with these has it already.")

    @cached_property
    def batches(self) -> list[Batch]:
        """The images behind each update."""
        return [self.images.batch(range(at, at + self.batch)) for at in range(0, self.batch * self.victims, self.batch)]

    @cached_property
    def updates(self) -> list[Update]:
        """What the server sees. Raises ValueError where the client cannot compute it, and says why."""
        if self.sent:
            return list(self.sent)
        found = [self.client.update(batch, round=place) for place, batch in enumerate(self.batches)]
        if not isinstance(self.client.improved(), Branched):
            return found
        return [replace(one, gradients=public_gradients(one.gradients)) for one in found]

    @cached_property
    def model(self) -> nn.Module:
        """The network that is trained, after the client's defenses have improved it; without what they keep secret."""
        improved = self.client.improved()
        return improved.public if isinstance(improved, Branched) else improved

    @cached_property
    def truth(self) -> Tensor:
        """All images of all victims (victims * batch, C, H, W)."""
        return torch.cat([batch.images for batch in self.batches])

    @cached_property
    def crowd(self) -> Tensor:
        """The victims' images first, and as many others as there are room for (N, C, H, W)."""
        own = self.batch * self.victims
        others = torch.randperm(len(self.images) - own, generator=seeded_generator(0)) + own
        return torch.cat([self.truth, self.images.images[others[: max(CROWD - own, 1)]]])

    def control(self) -> "Target":
        """The same clients without defenses, on the network before training: what an attack that works must find."""
        model = self.untrained() if self.untrained is not None else untrained(self.client.model)
        return replace(self, client=replace(self.client, model=model, defenses=()), sent=())


def untrained(model: nn.Module) -> nn.Module:
    """A copy whose layers have drawn new weights, from a generator that nobody else uses.

    Raises ValueError where a layer with parameters cannot draw them.
    """
    fresh = copied(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for name, part in fresh.named_modules():
            own = list(part.parameters(recurse=False))
            draw = getattr(part, "reset_parameters", None)
            if own and draw is None:
                raise ValueError(
                    f"layer {name!r} ({type(part).__name__}) has parameters and no reset_parameters(), so its weights "
                    "before training are unknown. Give the target a function untrained() that builds the network anew."
                )
            if draw is not None:
                draw()
    return fresh


def load_target(
    path: Path | str, images: Dataset, *, batch: int = 1, victims: int = 4, public: Dataset | None = None
) -> Target:
    """The target of a Python file with ``model()``, and perhaps ``client(model)``, ``untrained()``, ``generator()``.

    Without ``client`` the client takes one step of plain SGD on its batch. ``generator()`` returns a network from codes
    to images and the length of a code. Raises FileNotFoundError, and ValueError for a file that does not run, or whose
    functions do not return what they should.
    """
    module = _module(Path(path))
    model = _call(module, "model", nn.Module)
    client = _call(module, "client", Client, model) if hasattr(module, "client") else Client(model)
    fresh = getattr(module, "untrained", None)
    drawing = _generator(module) if hasattr(module, "generator") else None
    own = replace(client, share_labels=False, seed=0)
    return Target(own, images, batch, victims, fresh, public=public, generator=drawing)


def _generator(module: ModuleType) -> Generator:
    made: tuple[Any, ...] = _call(module, "generator", tuple)
    if len(made) != 2:
        raise ValueError(f"expected generator() to return a network and the length of a code, got {len(made)} things.")
    return Generator(*made)


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}. It should define model(), and perhaps client(model).")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"expected a Python file, got {path}.")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # as where Python runs a file: it finds what lies beside it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} does not run: {_where(error, path)}") from error
    finally:
        sys.path.remove(folder)
    return module


def _call(module: ModuleType, name: str, kind: type[Made], *inputs: nn.Module) -> Made:
    make = getattr(module, name, None)
    if not callable(make):
        raise ValueError(f"{module.__file__} has no function {name}({'model' if inputs else ''}). Define one.")
    try:
        made = make(*inputs)
    except Exception as error:
        raise ValueError(f"{name}() of {module.__file__} fails: {_where(error, Path(str(module.__file__)))}") from error
    if not isinstance(made, kind):
        raise ValueError(f"expected {name}() to return a {kind.__name__}, got a {type(made).__name__}.")
    return made


def _where(error: Exception, path: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    place = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{place}"
