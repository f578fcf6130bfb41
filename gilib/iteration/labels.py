"""Labels: what the attack knows, finds or optimizes about the victim's labels.

``restore(update)`` returns the labels (B,) that the attack then holds fixed, or None where the labels are part of
what it optimizes.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gilib.federated import Gradients, Update


class Labels(Protocol):
    """Decides an update's labels before the search starts, or leaves them to the search (None)."""

    def restore(self, update: Update) -> Tensor | None: ...


@dataclass(frozen=True)
class Known:
    """The threat model gives the labels."""

    def restore(self, update: Update) -> Tensor:
        if update.labels is None:
            raise ValueError(
                "known() needs the victim's labels, and this update does not carry them. Either the threat model gives "
                "them (Client(..., share_labels=True)), or use idlg() or joint() instead."
            )
        if len(update.labels) != update.batch_size:
            raise ValueError(
                f"known() expected {update.batch_size} labels, one for each image of the update; "
                f"got {len(update.labels)}. Give the update the labels of its own batch."
            )
        return update.labels


@dataclass(frozen=True)
class Joint:
    """Label logits are optimized together with the images."""

    def restore(self, update: Update) -> None:
        return None


@dataclass(frozen=True)
class IDLG:
    """The label is the one row of the last layer's weight gradient that is negative in sum."""

    def restore(self, update: Update) -> Tensor:
        if update.batch_size != 1:
            raise ValueError(
                f"idlg() reads the label of a single sample; this update comes from {update.batch_size}. "
                "Use joint(), or known() where the threat model gives the labels."
            )
        return idlg_scores(update.gradients).argmin(dim=0, keepdim=True)


def known() -> Labels:
    """Use the labels that the update carries; refuse to run where the threat model does not give them."""
    return Known()


def joint() -> Labels:
    """Optimize soft labels (a softmax of logits) together with the images. Source: DLG, Zhu et al. (2019)."""
    return Joint()


def idlg() -> Labels:
    """Read the label of a single sample off the last layer's gradient.

    For cross-entropy, row c of that gradient is ``(p_c - y_c) h`` with ``h`` the features: its sum is negative for
    the true class alone, as long as the features sum to something positive (sigmoid and ReLU do so, tanh need not).

    Source: iDLG, Zhao et al. (2020). Taught in: foundations/first_leak.
    """
    return IDLG()


def idlg_scores(gradients: Gradients) -> Tensor:
    """For each class (K,), the sum over its row of the last layer's weight gradient.

    The last layer is the last parameter with two dimensions. Raises ValueError if there is none.
    """
    matrices = [value for value in gradients.values() if value.ndim == 2]
    if not matrices:
        raise ValueError("idlg() needs a fully connected last layer; no shared gradient has two dimensions.")
    return matrices[-1].sum(dim=1)
