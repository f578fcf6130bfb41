"""Packed Shamir sharing, by a matrix or by an FFT."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from gilib.defenses.secret_sharing.prime_field import (
    GENERATOR,
    PRIME,
    Residues,
    fixed,
    inverse_of,
    powers,
    product,
    root_of_unity,
    transform,
    uniform,
)


@dataclass(frozen=True)
class Sharing:
    """Packed Shamir sharing among ``clients``: any ``private`` shares say nothing, any ``needed`` give the secrets.

    The polynomial of ``packed`` secrets s and ``private`` random pads r is ``s_0 + s_1 x + ... + r_0 x**packed + ...``,
    and share j is its value at ``w**j``, w being a root of unity. ``needed = private + packed``. With ``packed=1`` this
    is Shamir's scheme with threshold ``private + 1``. Raises ValueError unless all three are at least 1 and ``needed``
    is at most ``clients``.

    Known as: secret sharing (defense). Needs other clients, of whom few enough collude.
    Source: Shamir (1979); Franklin and Yung (1992) for packing; with the pads on top it is the code of So et al.
    (2021). Taught in: defenses/secure_aggregation.
    """

    clients: int
    private: int
    packed: int = 1

    def __post_init__(self) -> None:
        if min(self.private, self.packed) < 1 or self.needed > self.clients:
            raise ValueError(
                f"expected private and packed of at least 1, and private + packed at most clients={self.clients}; got "
                f"private={self.private} and packed={self.packed}."
            )

    @property
    def needed(self) -> int:
        """How many shares determine the secrets."""
        return self.private + self.packed

    @property
    def order(self) -> int:
        """The number of points at which shares could be taken, which is the first power of two from ``clients`` on."""
        return 1 << (self.clients - 1).bit_length()

    @property
    def code(self) -> Residues:
        """The matrix (clients, needed) that makes shares of secrets and pads, ``w**(j i)``, a Vandermonde matrix."""
        return _code(self.order, self.needed)[: self.clients]

    def share(self, values: Residues, *, pads: Residues | None = None) -> Residues:
        """The shares (clients, M) of ``values`` (packed, M): M times ``packed`` secrets, each time with fresh pads.

        ``pads`` (private, M) are drawn from the operating system unless given, which is for tests only.
        """
        if values.ndim != 2 or len(values) != self.packed:
            raise ValueError(f"expected secrets of shape ({self.packed}, M); got {values.shape}.")
        if pads is None:
            pads = uniform(self.private * values.shape[1]).reshape(self.private, -1)
        return self._evaluate(np.concatenate([values, pads]) % PRIME)

    def recover(self, shares: Mapping[int, Residues]) -> Residues:
        """The secrets (packed, M) from the shares (M,) of at least ``needed`` clients, by client.

        Raises ValueError for fewer, and where there are more and they do not lie on one polynomial of that degree,
        because a share was changed or belongs to another sum.
        """
        if not shares.keys() <= set(range(self.clients)) or len(shares) < self.needed:
            raise ValueError(
                f"expected shares of at least {self.needed} of the clients 0 to {self.clients - 1}; got those of "
                f"{len(shares)}: {sorted(shares)}. With fewer the secrets are undetermined."
            )
        clients = sorted(shares)
        coefficients = self._interpolate(clients, np.stack([shares[client] for client in clients]) % PRIME)
        if coefficients is None:
            raise ValueError("the shares do not lie on one polynomial: one was changed, or they are of different sums.")
        return coefficients[: self.packed]

    def _evaluate(self, coefficients: Residues) -> Residues:
        return product(self.code, coefficients)

    def _interpolate(self, clients: list[int], shares: Residues) -> Residues | None:
        """The coefficients (needed, M): Lagrange's interpolation, checked on the shares that are left over."""
        points, rows = powers(root_of_unity(self.order), self.order)[clients], self.code[clients]
        coefficients = product(_lagrange(points[: self.needed]), shares[: self.needed])
        agree = product(rows[self.needed :], coefficients) == shares[self.needed :]
        return coefficients if agree.all() else None


@dataclass(frozen=True)
class FastSharing(Sharing):
    """The same sharing with the same shares, computed by FFT.

    Sharing is one transform. Recovering from any set of enough shares takes three, and the polynomial ``l`` that is
    zero at the missing points: ``f l`` is then known at *all* points, and dividing by ``l`` at other points gives f.

    Source: Kadhe et al. (2020) for sharing by FFT; recovering by a polynomial that is zero at the erasures is the
    classical way of decoding Reed-Solomon codes. Taught in: defenses/secure_aggregation.
    """

    def _evaluate(self, coefficients: Residues) -> Residues:
        return transform(_padded(coefficients, self.order))[: self.clients]

    def _interpolate(self, clients: list[int], shares: Residues) -> Residues | None:
        missing = sorted(set(range(self.order)) - set(clients))
        locator = _padded(_zero_at(powers(root_of_unity(self.order), self.order)[missing])[:, None], self.order)
        known = np.zeros((self.order, shares.shape[1]), dtype=np.int64)
        known[clients] = shares
        times = transform(known * transform(locator) % PRIME, inverse=True)  # the coefficients of f l
        shift = powers(GENERATOR, self.order)[:, None]  # no power of w is a generator, so that l is not zero there
        quotient = transform(times * shift) * inverse_of(transform(locator * shift)) % PRIME
        back = powers(pow(GENERATOR, -1, PRIME), self.order)[:, None]
        coefficients = transform(quotient, inverse=True) * back % PRIME
        return None if coefficients[self.needed :].any() else coefficients[: self.needed]


@cache
def _code(order: int, needed: int) -> Residues:
    exponents = np.outer(np.arange(order), np.arange(needed)) % order
    return fixed(powers(root_of_unity(order), order)[exponents])


def _padded(values: Residues, rows: int) -> Residues:
    return np.concatenate([values, np.zeros((rows - len(values), *values.shape[1:]), dtype=np.int64)])


def _lagrange(points: Residues) -> Residues:
    """The matrix (n, n) from a polynomial's values at n ``points`` to its coefficients: the inverse of Vandermonde's.

    Column i has the coefficients of the polynomial that is 1 at point i and 0 at the others: the one that is zero at
    all points, divided by ``x - points[i]`` (Horner's scheme), and scaled.
    """
    size, zero = len(points), _zero_at(points)
    quotients, value = np.empty((size, size), dtype=np.int64), np.zeros(size, dtype=np.int64)
    quotients[size - 1] = zero[size]
    for degree in range(size - 1, 0, -1):
        quotients[degree - 1] = (zero[degree] + points * quotients[degree]) % PRIME
    for row in quotients[::-1]:
        value = (value * points + row) % PRIME  # of each quotient at its own point
    return quotients * inverse_of(value) % PRIME


def _zero_at(points: Residues) -> Residues:
    """The coefficients of the polynomial that is zero at ``points`` and nowhere else."""
    polynomial = np.ones(1, dtype=np.int64)
    for point in points:
        polynomial = (np.append(0, polynomial) - point * np.append(polynomial, 0)) % PRIME
    return polynomial
