"""Noise on gradients: DP-SGD with its privacy accountant, and plain noise, which guarantees nothing."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from gilib.federated import Defense, LocalTraining, Update

_NO_NOISE = 1e-100  # below, epsilon is beyond what a float can hold


@dataclass(frozen=True)
class DPSGD(Defense):
    """The defense that ``dp_sgd`` returns."""

    clip: float
    noise: float

    def __post_init__(self) -> None:
        _positive(clip=self.clip)
        _not_negative(noise=self.noise)

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "dp_sgd"

    @property
    def public(self) -> Mapping[str, object]:
        """The clipping norm and the noise multiplier; the guarantee does not depend on hiding them."""
        return {"clip": self.clip, "noise": self.noise}

    def compatible(self, *, before: Sequence[Defense], after: Sequence[Defense]) -> None:
        """Refuse defenses that move a sum by more than the clipping promised, or tell more than what gets the noise.

        Sums of clipped gradients may not be changed before the noise by one that looks at them, samples may not be
        mixed, and nothing may be left out by the data. What happens to the update after the noise is free.
        """
        for other in (*before, *after):
            if isinstance(other, DPSGD):
                raise ValueError("got dp_sgd twice: each would clip for the other's noise. List one of them.")
            if _overrides(other, "agree"):
                raise ValueError(
                    f"{other.name} changes the local training, and the noise of dp_sgd fits one step on the whole "
                    "batch, clipped by itself. List one of the two."
                )
            if _overrides(other, "withhold"):
                raise ValueError(
                    f"{other.name} chooses by the data what it leaves out, which no noise covers: beside dp_sgd it "
                    "voids the guarantee. List one of the two."
                )
            if _overrides(other, "obscure") and not other.keeps_sensitivity:
                raise ValueError(
                    f"{other.name} changes the batch, and may let one person's image into several samples: clipping "
                    "each of them then bounds no person's part. List one of the two, or set keeps_sensitivity if "
                    "every image is changed by itself."
                )
        for other in before:
            if _overrides(other, "protect") and not other.keeps_sensitivity:
                raise ValueError(
                    f"{other.name} changes the update before dp_sgd adds its noise, which voids the guarantee: list "
                    "dp_sgd first."
                )

    def agree(self, local: LocalTraining) -> LocalTraining:
        """The same local training, with the gradient of every sample clipped; it must be a single step on all."""
        if not _one_plain_step(local):
            raise ValueError(
                "dp_sgd adds the noise of one plain step on the whole batch, so it needs LocalTraining(steps=1) with "
                "SGD, without a local batch_size, weight_decay or nesterov, which would change the clipped gradients; "
                f"got {local}."
            )
        return replace(local, clip=self.clip)

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """Noise of standard deviation ``noise * clip / B`` on the mean of the clipped gradients, B at least one."""
        if update.local.clip != self.clip or not _one_plain_step(update.local):
            raise ValueError(
                f"the noise fits one step with gradients clipped to {self.clip}; got {update.local}. Let no other "
                "defense change the local training after dp_sgd."
            )
        length = torch.stack([value.double().square().sum() for value in update.gradients.values()]).sum().sqrt()
        rounding = max(4 * torch.finfo(value.dtype).eps for value in update.gradients.values())
        if length > self.clip * (1 + 1e-5 + rounding):
            raise ValueError(
                f"the mean of gradients clipped to {self.clip} has at most that norm; got {float(length):.3g}. Another "
                "defense has changed the update before the noise, which voids the guarantee: list dp_sgd first."
            )
        return _noisy(update, self.noise * self.clip / max(1, update.batch_size), generator)


def dp_sgd(clip: float, noise: float) -> Defense:
    """Clip the gradient of every sample to a norm of ``clip``, average, and add Gaussian noise.

    The sum over the batch gets noise of standard deviation ``noise * clip`` in every entry, hence the mean that is
    shared ``noise * clip / B``. ``noise`` is the noise multiplier that ``epsilon`` takes; 0 clips only. A batch that
    Poisson sampling left without samples is shared as the noise of its sum, which is zero: divided by 1, so that the
    multiplier is that of every other round. The guarantee is one of the noisy sum: the number of samples B and labels
    that a client shares go along as they are. Attacks simulate the clipping, because it is agreed.

    List it before other defenses that change the update: what they do after the noise costs no privacy. Raises
    ValueError for a clip that is not positive and for negative noise; when a client trains, for several local steps or
    another optimizer than SGD, and beside defenses that void the guarantee: those that change the update before the
    noise, mix samples, leave something out by the data, or change the local training.

    Known as: DP-SGD, differential privacy (defense). Needs the gradient of every sample, one local step, and accuracy
    to spare.
    Source: Abadi et al. (2016), algorithm 1. Taught in: defenses/privacy.
    """
    return DPSGD(clip, noise)


@dataclass(frozen=True)
class GaussianNoise(Defense):
    """The defense that ``gaussian_noise`` returns."""

    std: float

    def __post_init__(self) -> None:
        _not_negative(std=self.std)

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return "gaussian_noise"

    @property
    def public(self) -> Mapping[str, object]:
        """The standard deviation."""
        return {"std": self.std}

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """The update plus noise."""
        return _noisy(update, self.std, generator)


def gaussian_noise(std: float) -> Defense:
    """Add independent Gaussian noise of standard deviation ``std`` to every entry of the update, and clip nothing.

    One sample can move such an update by any amount, so this is no differential privacy at any ``std``. Raises
    ValueError for a negative ``std``.

    Known as: Gaussian noise, noise on gradients (defense). Needs nothing of anybody else, and guarantees nothing.
    Source: Zhu et al. (2019), section 5. Taught in: defenses/privacy.
    """
    return GaussianNoise(std)


def epsilon(noise: float, *, sample_rate: float, rounds: int, delta: float) -> float:
    """An upper bound on the epsilon of ``rounds`` rounds of DP-SGD at ``delta``, by Opacus' accountant (RDP).

    It holds where every sample joins a round independently with probability ``sample_rate`` in (0, 1] (Poisson
    sampling), and where neighbours differ by one sample added or removed. ``federated.fit`` draws batches of fixed size
    without replacement: for it the number is a guide and not a theorem, unless every round takes everything. Infinite
    without noise, and never negative: the conversion from RDP goes below zero where delta alone covers what is lost,
    and whoever is (e, delta)-private for an e below zero is so for 0. Raises ValueError for values out of range.

    Known as: privacy accountant, epsilon (analysis). Needs noise, clipping, and how often a sample is drawn.
    Source: Abadi et al. (2016), section 3 (the accountant); the moments are those of the Opacus library. Taught in:
    defenses/privacy.
    """
    _check(noise, rounds, delta)
    if not 0 < sample_rate <= 1:
        raise ValueError(f"sample_rate is a probability above 0; got {sample_rate}.")
    if noise < _NO_NOISE * math.sqrt(rounds):
        return math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus warns at import and where its best order is the largest one
        from opacus.accountants.analysis import rdp  # type: ignore[import-untyped]

        orders = [1 + k / 20 for k in range(1, 200)] + list(range(11, 512))
        moments = rdp.compute_rdp(q=sample_rate, noise_multiplier=noise, steps=rounds, orders=orders)
        return max(0.0, float(rdp.get_privacy_spent(orders=orders, rdp=moments, delta=delta)[0]))


def gaussian_epsilon(noise: float, *, rounds: int = 1, delta: float) -> float:
    """The exact epsilon of ``rounds`` Gaussian mechanisms that all take the whole data, at ``delta``.

    Together they are one Gaussian mechanism with noise multiplier ``noise / sqrt(rounds)``. Infinite without noise.
    Raises ValueError for values out of range.

    Source: Balle and Wang (2018), theorem 8. Taught in: defenses/privacy.
    """
    from scipy.optimize import brentq

    _check(noise, rounds, delta)
    if noise < _NO_NOISE * math.sqrt(rounds):
        return math.inf
    single = noise / math.sqrt(rounds)
    if gaussian_delta(0.0, noise=single) <= delta:
        return 0.0
    top = 1.0
    while gaussian_delta(top, noise=single) > delta:
        top *= 2
    low = 0.0 if top == 1 else top / 2
    return float(brentq(lambda value: gaussian_delta(value, noise=single) - delta, low, top))


def gaussian_delta(epsilon: float, *, noise: float) -> float:
    """The smallest delta for which one Gaussian mechanism with this noise multiplier is (``epsilon``, delta)-DP.

    ``delta = Phi(1 / (2 s) - e s) - exp(e) Phi(-1 / (2 s) - e s)``, with e for ``epsilon`` and s for ``noise``. Raises
    ValueError for an ``epsilon`` that is negative or not finite, and for noise that is not positive.

    Source: Balle and Wang (2018), theorem 8. Taught in: defenses/privacy.
    """
    from scipy.special import erfcx, ndtr

    _positive(noise=noise)
    _not_negative(epsilon=epsilon)
    first, second = 1 / (2 * noise) - epsilon * noise, 1 / (2 * noise) + epsilon * noise
    # exp(e) Phi(-second), in which e cancels: written like this, no factor overflows.
    product = math.exp(-first * first / 2) * erfcx(second / math.sqrt(2)) / 2
    return max(0.0, float(ndtr(first) - product))


def _noisy(update: Update, std: float, generator: torch.Generator) -> Update:
    """The update with fresh noise, drawn in float64 on the CPU so that every dtype and device gets the same draw."""
    noisy = {}
    for name, value in update.gradients.items():
        draw = torch.randn(value.shape, generator=generator, dtype=torch.float64, device="cpu")
        exact = torch.promote_types(value.dtype, torch.float32)  # where little noise is not rounded to none
        noisy[name] = (value.to(exact) + std * draw.to(value.device, exact)).to(value.dtype)
    return replace(update, gradients=noisy)


def _overrides(defense: Defense, method: str) -> bool:
    """Whether a defense does something there, where the base class does nothing."""
    return getattr(type(defense), method) is not getattr(Defense, method)


def _one_plain_step(local: LocalTraining) -> bool:
    """Whether the update is the gradient on the whole batch: one step of SGD that adds and scales nothing."""
    once = local.steps == 1 or local.epochs == 1
    return once and local.batch_size is None and local.optimizer == "sgd" and not (local.weight_decay or local.nesterov)


def _check(noise: float, rounds: int, delta: float) -> None:
    _not_negative(noise=noise)
    if not 1 <= rounds < math.inf or rounds != int(rounds) or not 0 < delta < 1:
        raise ValueError(
            f"rounds must be a whole number of at least 1 and delta between 0 and 1; got {rounds} and {delta}."
        )


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite; got {value}.")


def _not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not negative; got {value}.")
