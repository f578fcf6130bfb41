"""Model improvement: the client trains a network that gives less away, with layers that draw, or layers it keeps.

Dropout and a variational bottleneck put random numbers between the image and the gradient; a secret branch changes the
logits by something that the server does not have; a narrow network has fewer equations than the image has pixels.
"""

from gilib.defenses.model.bottleneck import Bottleneck, PlacedPrecode, Precode, precode
from gilib.defenses.model.dropping import Dropout, Dropped, dropout
from gilib.defenses.model.narrow import widest_safe
from gilib.defenses.model.places import Branched, public_gradients
from gilib.defenses.model.secret import Polarized, SecretBranch, Unknown, secret_branch, server_view

__all__ = [
    "Bottleneck",
    "Branched",
    "Dropout",
    "Dropped",
    "PlacedPrecode",
    "Polarized",
    "Precode",
    "SecretBranch",
    "Unknown",
    "dropout",
    "precode",
    "public_gradients",
    "secret_branch",
    "server_view",
    "widest_safe",
]
