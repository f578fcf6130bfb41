"""Additively homomorphic encryption: a server adds updates that it cannot read.

The messages (``EncryptedUpdate``), the roles (``...Public`` encrypts and adds, ``...Secret`` decrypts) and the encoding
of numbers (``FixedPoint``) are ours; the cryptography is that of ``phe`` (Paillier) and ``tenseal`` (CKKS). It is a
protocol among clients, a server and whoever holds the key, and therefore no ``Defense`` of a single client.

Teaching code, not an audited implementation: nothing here claims to run in constant time. Keys and ciphertexts are
drawn from the operating system and never seeded, because a key that somebody can repeat is no key.

Known as: homomorphic encryption (defense). Needs a key that the server does not have. Taught in: defenses/encryption.
"""

from gilib.defenses.encryption.ckks import CKKSPublic, CKKSSecret, ckks_keys
from gilib.defenses.encryption.fixed_point import FixedPoint, flat, unflat
from gilib.defenses.encryption.messages import EncryptedUpdate
from gilib.defenses.encryption.paillier import PaillierPublic, PaillierSecret, paillier_keys

__all__ = [
    "CKKSPublic",
    "CKKSSecret",
    "EncryptedUpdate",
    "FixedPoint",
    "PaillierPublic",
    "PaillierSecret",
    "ckks_keys",
    "flat",
    "paillier_keys",
    "unflat",
]
