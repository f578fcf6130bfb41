"""Arithmetic of a prime field: uniform residues, exact products of matrices, roots of unity and their FFT."""

import secrets
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

Residues = NDArray[np.int64]

PRIME = 15 * 2**27 + 1  # under 2**31, so that products fit in int64; and it has roots of unity of order 2**27
GENERATOR = 31  # its powers are all numbers from 1 to PRIME - 1


def uniform(count: int, *, seed: bytes | None = None) -> Residues:
    """``count`` residues, uniform in ``0..PRIME - 1``: from the operating system, or determined by a seed of 32 bytes.

    A seed is stretched by ChaCha20. Words of 31 bits that are not residues are thrown away, so that no residue is
    likelier than another. Raises ValueError for a seed of another length. Taught in: defenses/secure_aggregation.
    """
    if seed is not None and len(seed) != 32:
        raise ValueError(f"expected a seed of 32 bytes; got {len(seed)}.")
    length, found = count + count // 8 + 64, np.empty(0, dtype=np.int64)
    while len(found) < count:  # one word in 16 is thrown away, so that the first length nearly always suffices
        stream = secrets.token_bytes(4 * length) if seed is None else _stretched(seed, 4 * length)
        words = np.frombuffer(stream, dtype="<u4") & 0x7FFFFFFF
        found, length = words[words < PRIME].astype(np.int64), 2 * length
    return found[:count]


def _stretched(seed: bytes, length: int) -> bytes:
    return Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(length))


def product(left: Residues, right: Residues) -> Residues:
    """The matrix product of residues (K, M) and (M, N) modulo `PRIME`, exact.

    Each factor is cut into 16 high and 16 low bits. Products of such halves, summed over at most 2**20 terms, are
    exact in float64, whose matrix product is much faster than that of integers.
    """
    high, low = (left >> 16).astype(np.float64), (left & 0xFFFF).astype(np.float64)
    top, bottom = (right >> 16).astype(np.float64), (right & 0xFFFF).astype(np.float64)
    outer = (high @ top).astype(np.int64) % PRIME
    middle = (high @ bottom + low @ top).astype(np.int64) % PRIME
    inner = (low @ bottom).astype(np.int64)
    return ((outer * 2**16 + middle) % PRIME * 2**16 + inner) % PRIME


def root_of_unity(order: int) -> int:
    """A number whose powers are ``order`` different residues, the last of them 1.

    Raises ValueError unless ``order`` is a power of two up to 2**27.
    """
    if not 1 <= order <= 2**27 or order & (order - 1):
        raise ValueError(f"expected an order that is a power of two up to 2**27; got {order}.")
    return pow(GENERATOR, (PRIME - 1) // order, PRIME)


def transform(values: Residues, *, inverse: bool = False) -> Residues:
    """The number-theoretic transform along the first axis of ``values`` (n, M): the FFT of a finite field.

    Row j of the result is ``sum_i values[i] w**(i j)`` with w the root of unity of order n: the values of a polynomial
    at all powers of w, in about ``n log2(n)`` products instead of ``n**2``. ``inverse`` undoes it. Raises ValueError
    unless n is a power of two up to 2**27.

    Source: Cooley and Tukey's recursion, in a finite field. Taught in: defenses/secure_aggregation.
    """
    root = root_of_unity(len(values))
    if not inverse:
        return _transform(values % PRIME, root)
    return _transform(values % PRIME, pow(root, -1, PRIME)) * pow(len(values), -1, PRIME) % PRIME


def _transform(values: Residues, root: int) -> Residues:
    if len(values) == 1:
        return values
    even = _transform(values[::2], root * root % PRIME)
    odd = _transform(values[1::2], root * root % PRIME)
    turned = powers(root, len(odd))[:, None] * odd % PRIME
    return np.concatenate([even + turned, even - turned]) % PRIME


@cache
def powers(base: int, count: int) -> Residues:
    """``base ** (0, 1, ..., count - 1)``."""
    powers = [1]
    while len(powers) < count:
        powers.append(powers[-1] * base % PRIME)
    return fixed(np.array(powers, dtype=np.int64))


def fixed(values: Residues) -> Residues:
    """The same array, which nobody can change: it is cached."""
    values.flags.writeable = False
    return values


def inverse_of(values: Residues) -> Residues:
    """One over each of ``values``, by Fermat's little theorem."""
    result, exponent = np.ones_like(values), PRIME - 2
    while exponent:
        if exponent & 1:
            result = result * values % PRIME
        values, exponent = values * values % PRIME, exponent >> 1
    return result
