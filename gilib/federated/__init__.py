"""The client's side of federated learning: from a batch to the update that leaves the client.

A ``Client`` trains locally (``LocalTraining``), changed by its defenses (``Defense``), and shares an ``Update``. What
it computes is a pure function of tensors, ``local_update``, which an attack calls on its candidate too.
"""

from gilib.draws import seeded_generator
from gilib.federated.client import Client
from gilib.federated.defense import Defense
from gilib.federated.functional import (
    as_function,
    checked_logits,
    copied,
    logits_of,
    reference,
    use_batch_statistics,
    working_copy,
)
from gilib.federated.head import Head, find_head, in_single
from gilib.federated.local_training import PLAIN, LocalTraining
from gilib.federated.losses import (
    ErrorForm,
    Loss,
    as_targets,
    classes_of,
    cross_entropy,
    error_form,
    error_scale,
    logistic,
    logit_errors,
    probabilities,
)
from gilib.federated.noticed import explained
from gilib.federated.own_backward import check_own_backward
from gilib.federated.simulation import (
    MAPPED_NUMBERS,
    Forward,
    GradientOf,
    Gradients,
    by_tape,
    by_transform,
    gradient_weights,
    local_update,
    training_steps,
)
from gilib.federated.training import fit, train
from gilib.federated.update import Mode, Update

__all__ = [
    "MAPPED_NUMBERS",
    "PLAIN",
    "Client",
    "Defense",
    "ErrorForm",
    "Forward",
    "GradientOf",
    "Gradients",
    "Head",
    "LocalTraining",
    "Loss",
    "Mode",
    "Update",
    "as_function",
    "as_targets",
    "by_tape",
    "by_transform",
    "check_own_backward",
    "checked_logits",
    "classes_of",
    "copied",
    "cross_entropy",
    "error_form",
    "error_scale",
    "explained",
    "find_head",
    "fit",
    "gradient_weights",
    "in_single",
    "local_update",
    "logistic",
    "logit_errors",
    "logits_of",
    "probabilities",
    "reference",
    "seeded_generator",
    "train",
    "training_steps",
    "use_batch_statistics",
    "working_copy",
]
