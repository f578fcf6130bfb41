"""Secret sharing over a prime field: Shamir's scheme, packed for many secrets at once, by a matrix or by an FFT.

A polynomial has the secrets as its lowest coefficients and random numbers, the pads, above them. A share is its value
at one point. Enough shares determine the polynomial; few enough say nothing, because the pads can explain any secrets.
Sums of shares are shares of sums.

Teaching code, not an audited implementation: nothing here claims to run in constant time.
"""

from gilib.defenses.secret_sharing.prime_field import PRIME, Residues, product, root_of_unity, transform, uniform
from gilib.defenses.secret_sharing.sharing import FastSharing, Sharing

__all__ = ["PRIME", "FastSharing", "Residues", "Sharing", "product", "root_of_unity", "transform", "uniform"]
