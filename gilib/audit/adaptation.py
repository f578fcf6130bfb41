"""What an attacker who knows the client's defenses changes about a search, from what ``Update.public`` says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from gilib.defenses.obscuration import undo
from gilib.federated import Defense, Update
from gilib.iteration import hidden, matching
from gilib.iteration.priors import total_variation
from gilib.matrix.attacks import Adaptation

Public = Mapping[str, Any]
After = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Adapted:
    """How attacks adapt to all defenses of a client: ``search`` to change a search, and ``after`` for what it found.

    ``missing`` are the names of the defenses that nothing here is adapted to, ``searched`` of those that only searches
    take account of, and ``boxed`` of those that a division takes account of too, by the nearest image in the box.
    """

    search: Adaptation = field(default_factory=Adaptation)
    after: tuple[After, ...] = ()
    missing: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    boxed: tuple[str, ...] = ()

    def finished(self, images: Tensor) -> Tensor:
        """Images that a search or a solver found, with what the defenses are known to have done to them undone."""
        for change in self.after:
            images = change(images)
        return images


def adaptation_of(defenses: Sequence[Defense], update: Update) -> Adapted:
    """How to adapt to the defenses of a client that sent this update, one image or several."""
    found, after, missing, searched, boxed = Adaptation(), list[After](), list[str](), list[str](), list[str]()
    for defense in defenses:
        public = update.public.get(defense.name)
        if defense.name not in KNOWN or not isinstance(public, Mapping):
            missing.append(defense.name)
        elif defense.name == "transformations":
            after.insert(0, partial(undo, public["policy"]))  # the last to be applied is the first to be undone
        elif defense.name == "secret_branch" and update.batch_size > 1:
            missing.append(defense.name)  # for one image the search by a linear loss does not need the branch
        else:
            own = KNOWN[defense.name](public)
            found = _together(found, own)
            if own != Adaptation():
                (boxed if own.in_box else searched).append(defense.name)
    return Adapted(found, tuple(after), tuple(missing), tuple(searched), tuple(boxed))


def _noisy(noise: float) -> Adaptation:
    """Noise: a stronger prior, and the nearest input in the box."""
    return Adaptation(priors=(total_variation(0.06 if noise > 0.05 else 0.01),), in_box=True) if noise else Adaptation()


def _sent(public: Public) -> Adaptation:
    return Adaptation(matching.sent_only, in_box=True)


def _rounded(public: Public) -> Adaptation:
    bits, stochastic = public["bits"], public["stochastic"]
    return Adaptation(partial(matching.within_quantized, bits=bits, stochastic=stochastic), staged=True)


def _bottleneck(public: Public) -> Adaptation:
    parts = [f"bottleneck.{part}.{kind}" for part in ("encode", "decode") for kind in ("weight", "bias")]
    return Adaptation(ignored=tuple(parts), draws=hidden.searched())


def _nothing(public: Public) -> Adaptation:
    return Adaptation()


KNOWN: dict[str, Callable[[Public], Adaptation]] = {
    "pruning": _sent,
    "top_k": _sent,
    "quantization": _rounded,
    "sign_compression": lambda public: Adaptation(matching.within_signs, staged=True),
    "soteria": lambda public: Adaptation(ignored=(f"{public['layer']}.weight",)),
    "dropout": lambda public: Adaptation(draws=hidden.searched()),
    "precode": _bottleneck,
    "gaussian_noise": lambda public: _noisy(public["std"]),
    "dp_sgd": lambda public: _noisy(public["noise"]),
    "local_iterations": _nothing,  # the server knows how many steps it asked for
    "transformations": _nothing,
    "secret_branch": _nothing,
}
"""By the defense's name."""


def _together(first: Adaptation, second: Adaptation) -> Adaptation:
    return Adaptation(
        matching=second.matching or first.matching,
        ignored=(*first.ignored, *second.ignored),
        priors=(*first.priors, *second.priors),
        draws=second.draws or first.draws,
        staged=first.staged or second.staged,
        in_box=first.in_box or second.in_box,
    )
