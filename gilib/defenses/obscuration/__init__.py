"""Data obscuration: the client changes its batch before it trains, so that the gradient speaks of other images.

MixUp and InstaHide train on weighted means of several images, and automatic transformation search on distorted ones.
What undoes them stands beside them, as functions of tensors: ``unmix``, ``decode`` and ``decode_cross`` take the
encodings that a gradient inversion returned over many rounds, ``undo`` takes the distorted images.
"""

from gilib.defenses.obscuration.decoding import decode, decode_cross, unmix
from gilib.defenses.obscuration.mixing import Mixing, instahide, mixup
from gilib.defenses.obscuration.policies import Scored, privacy_score, search_policy, usability_score
from gilib.defenses.obscuration.transforming import Policy, Transformation, Transforming, apply, transformations, undo

__all__ = [
    "Mixing",
    "Policy",
    "Scored",
    "Transformation",
    "Transforming",
    "apply",
    "decode",
    "decode_cross",
    "instahide",
    "mixup",
    "privacy_score",
    "search_policy",
    "transformations",
    "undo",
    "unmix",
    "usability_score",
]
