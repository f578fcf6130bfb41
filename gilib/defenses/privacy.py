"""Noise on gradients: DP-SGD with its privacy accountant, and plain noise, which guarantees nothing."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from gilib.federated import Defense, LocalTraining, Update


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

    def agree(self, local: LocalTraining) -> LocalTraining:
        """The same local training, with the gradient of every sample clipped; it must be a single step on all."""
        if local.steps != 1 or local.batch_size is not None:
            raise ValueError(
                "dp_sgd adds the noise of one step on the whole batch, so it needs LocalTraining(steps=1) without a "
                f"local batch_size; got steps={local.steps} and batch_size={local.batch_size}."
            )
        return replace(local, clip=self.clip)

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """Noise of standard deviation ``noise * clip / B`` on the mean of the clipped gradients."""
        if update.local.clip != self.clip or update.local.steps != 1 or update.local.batch_size is not None:
            raise ValueError(
                f"the noise fits one step with gradients clipped to {self.clip}; got {update.local}. Let no other "
                "defense change the local training after dp_sgd."
            )
        length = torch.stack([value.double().square().sum() for value in update.gradients.values()]).sum().sqrt()
        if length > self.clip * (1 + 1e-5):
            raise ValueError(
                f"the mean of gradients clipped to {self.clip} has at most that norm; got {float(length):.3g}. Another "
                "defense has changed the update before the noise, which voids the guarantee: list dp_sgd first."
            )
        return _noisy(update, self.noise * self.clip / update.batch_size, generator)


def dp_sgd(clip: float, noise: float) -> Defense:
    """Clip the gradient of every sample to a norm of ``clip``, average, and add Gaussian noise.

    The sum over the batch gets noise of standard deviation ``noise * clip`` in every entry, hence the mean that is
    shared ``noise * clip / B``. ``noise`` is the noise multiplier that ``epsilon`` takes; 0 clips only. Attacks
    simulate the clipping, because it is agreed. List it before other defenses that change the update: what they do
    after the noise costs no privacy, what they do before it voids the guarantee. Raises ValueError for a clip that is
    not positive, for negative noise, and when it is used after a defense that made the update longer than the clip; a
    client with several local steps raises it when it trains.

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

    Source: Zhu et al. (2019), section 5. Taught in: defenses/privacy.
    """
    return GaussianNoise(std)


def epsilon(noise: float, *, sample_rate: float, rounds: int, delta: float) -> float:
    """An upper bound on the epsilon of ``rounds`` rounds of DP-SGD at ``delta``, by Opacus' accountant (RDP).

    It holds where every sample joins a round independently with probability ``sample_rate`` in (0, 1] (Poisson
    sampling), and where neighbours differ by one sample added or removed. ``federated.fit`` draws batches of fixed size
    without replacement: for it the number is a guide and not a theorem, unless every round takes everything. Infinite
    without noise. Raises ValueError for values out of range.

    Source: Abadi et al. (2016), section 3 (the accountant); the moments are those of the Opacus library. Taught in:
    defenses/privacy.
    """
    _check(noise, rounds, delta)
    if not 0 < sample_rate <= 1:
        raise ValueError(f"sample_rate is a probability above 0; got {sample_rate}.")
    if noise == 0:
        return math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus warns at import and where its best order is the largest one
        from opacus.accountants.analysis import rdp  # type: ignore[import-untyped]

        orders = [1 + k / 20 for k in range(1, 200)] + list(range(11, 512))
        moments = rdp.compute_rdp(q=sample_rate, noise_multiplier=noise, steps=rounds, orders=orders)
        return float(rdp.get_privacy_spent(orders=orders, rdp=moments, delta=delta)[0])


def gaussian_epsilon(noise: float, *, rounds: int = 1, delta: float) -> float:
    """The exact epsilon of ``rounds`` Gaussian mechanisms that all take the whole data, at ``delta``.

    Together they are one Gaussian mechanism with noise multiplier ``noise / sqrt(rounds)``. Infinite without noise.
    Raises ValueError for values out of range.

    Source: Balle and Wang (2018), theorem 8. Taught in: defenses/privacy.
    """
    from scipy.optimize import brentq

    _check(noise, rounds, delta)
    if noise == 0:
        return math.inf
    single = noise / math.sqrt(rounds)
    if gaussian_delta(0.0, noise=single) <= delta:
        return 0.0
    top = 1.0
    while gaussian_delta(top, noise=single) > delta:
        top *= 2
    return float(brentq(lambda value: gaussian_delta(value, noise=single) - delta, 0.0, top))


def gaussian_delta(epsilon: float, *, noise: float) -> float:
    """The smallest delta for which one Gaussian mechanism with this noise multiplier is (``epsilon``, delta)-DP.

    ``delta = Phi(1 / (2 s) - e s) - exp(e) Phi(-1 / (2 s) - e s)``, with e for ``epsilon`` and s for ``noise``.

    Source: Balle and Wang (2018), theorem 8. Taught in: defenses/privacy.
    """
    from scipy.special import log_ndtr, ndtr

    first, second = 1 / (2 * noise) - epsilon * noise, -1 / (2 * noise) - epsilon * noise
    return float(ndtr(first) - math.exp(epsilon + log_ndtr(second)))


def _noisy(update: Update, std: float, generator: torch.Generator) -> Update:
    """The update with fresh noise, drawn in float64 so that every dtype gets the same draw."""
    noisy = {}
    for name, value in update.gradients.items():
        draw = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        noisy[name] = value + std * draw.to(value)
    return replace(update, gradients=noisy)


def _check(noise: float, rounds: int, delta: float) -> None:
    _not_negative(noise=noise)
    if rounds < 1 or not 0 < delta < 1:
        raise ValueError(f"rounds must be at least 1 and delta between 0 and 1; got {rounds} and {delta}.")


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite; got {value}.")


def _not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not negative; got {value}.")
