"""Labels: what the attack knows, finds or optimizes about the victim's labels.

``restore(update, model)`` returns the labels (B,) that the attack then holds fixed, or None where the labels are part
of what it optimizes. The order of a batch cannot be observed: restored labels are sorted.

Known as: label restoration (label attack). Needs the gradient of the last layer. Taught in: iteration/labels.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor, nn

from gilib.federated import PLAIN, Update, as_function, as_targets, find_head, in_single, local_update
from gilib.iteration.last_layer import LastLayer, check_one_label, last_layer, row_sums

__all__ = [
    "IDLG",
    "LLG",
    "RLG",
    "ColumnMinimum",
    "Counts",
    "Joint",
    "Known",
    "Labels",
    "column_minimum",
    "counts",
    "idlg",
    "joint",
    "known",
    "labels_of",
    "last_layer",
    "llg",
    "rlg",
    "rlg_classes",
    "row_sums",
]


class Labels(Protocol):
    """Decides an update's labels before the search starts, or leaves them to the search (None)."""

    def restore(self, update: Update, model: nn.Module | None = None) -> Tensor | None: ...


@dataclass(frozen=True)
class Known:
    """The threat model gives the labels."""

    def restore(self, update: Update, model: nn.Module | None = None) -> Tensor:
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

    def restore(self, update: Update, model: nn.Module | None = None) -> None:
        if model is not None:
            check_one_label(update, model)


@dataclass(frozen=True)
class IDLG:
    """The label is the one class whose error ``p - y`` is negative in the last layer's gradient."""

    def restore(self, update: Update, model: nn.Module | None = None) -> Tensor:
        if update.batch_size != 1:
            raise ValueError(
                f"idlg() reads the label of a single sample; this update comes from {update.batch_size}. "
                "Use joint(), or known() where the threat model gives the labels."
            )
        view = LastLayer.of(update, _needed(model, "idlg()"))
        if view.form is None or (view.form.smoothing and view.head.has_bias(view.gradients)):
            return view.nearest_label(_needed(model, "idlg()"))
        return view.scores().argmin(dim=0, keepdim=True)


@dataclass(frozen=True)
class ColumnMinimum:
    """The B classes whose row of the last layer's weight gradient has the smallest entry."""

    def restore(self, update: Update, model: nn.Module | None = None) -> Tensor:
        view = LastLayer.of(update, _needed(model, "column_minimum()"), scaled=True)
        if update.batch_size > view.head.classes:
            raise ValueError(
                f"column_minimum() finds each class at most once: {update.batch_size} samples cannot have different "
                f"labels out of {view.head.classes} classes. Use counts() or llg(), which allow repeated labels."
            )
        smallest = view.scores() if view.head.signed else view.weight.min(dim=1).values
        return smallest.argsort(stable=True)[: update.batch_size].sort().values


@dataclass(frozen=True, eq=False)
class LLG:
    """Greedy: one label lowers its class's row sum by the impact; take the lowest row until B labels are found."""

    images: Tensor | None

    def restore(self, update: Update, model: nn.Module | None = None) -> Tensor:
        model = _needed(model, "llg()")
        view = LastLayer.of(update, model, scaled=True)
        scores = view.scores() / view.steps
        size, classes = update.batch_size, len(scores)
        present = (scores < 0).nonzero().flatten()
        present = present[scores[present].argsort(stable=True)][:size]
        if self.images is None:
            impact, offset = scores[scores < 0].sum() / size * (1 + 1 / classes), torch.zeros_like(scores)
        else:
            impact, offset = self.probe(update, model)
        scores = scores - offset
        scores[present] -= impact
        labels = present.tolist()
        while len(labels) < size:
            labels.append(int(scores.argmin()))
            scores[labels[-1]] -= impact
        return torch.tensor(sorted(labels), device="cpu")

    def probe(self, update: Update, model: nn.Module) -> tuple[Tensor, Tensor]:
        """The impact of one label, and each class's row sum (K,) where it has none, on the attacker's own images."""
        assert self.images is not None
        forward, parameters = as_function(in_single(model), mode=update.mode)
        images = self.images.to(next(iter(parameters.values())))
        head, rows = find_head(model, update.image_shape), []
        for label in range(head.classes):
            chosen = torch.full((len(images),), label, device=images.device)
            targets = as_targets(chosen, head.logits, dtype=images.dtype)
            given = local_update(forward, parameters, images, targets, loss=update.loss, local=PLAIN)
            rows.append(LastLayer.seen(replace(update, gradients=given, batch_size=len(images)), head).scores())
        sums = torch.stack(rows)  # (label of all images, class)
        own = sums.diagonal()
        impact = own.mean() / update.batch_size * (1 + 1 / head.classes)
        return impact, (sums.sum(dim=0) - own) / (head.classes - 1)


@dataclass(frozen=True)
class Counts:
    """Label counts from the bias gradient, with the mean prediction estimated from the weight gradient."""

    def restore(self, update: Update, model: nn.Module | None = None) -> Tensor:
        return labels_of(self.estimate(update, _needed(model, "counts()")), update.batch_size)

    def estimate(self, update: Update, model: nn.Module) -> Tensor:
        """How often each class occurs (K,), as real numbers that sum to B."""
        if update.local.clip is not None and update.batch_size > 1:
            raise ValueError(
                "counts() needs every sample to count alike, and this client clips the gradient of each sample. Use "
                "known() where the threat model gives the labels."
            )
        view = LastLayer.of(update, model, scaled=True)
        assert view.form is not None
        smoothing = view.form.smoothing
        targets = view.predicted(model) - view.bias / view.errors_per_sample()  # the mean of the smoothed labels
        return update.batch_size * (targets - smoothing / view.head.classes) / (1 - smoothing)


@dataclass(frozen=True)
class RLG:
    """The set of labels: class c occurs if some mix of the gradient's columns is negative for c alone."""

    def restore(self, update: Update, model: nn.Module | None = None) -> Tensor:
        found = rlg_classes(update, _needed(model, "rlg()"))
        if len(found) != update.batch_size:
            raise ValueError(
                f"rlg() found the set {found.tolist()} for {update.batch_size} samples, so labels are repeated or were "
                "missed; it cannot say which. Use counts() or llg()."
            )
        return found


def known() -> Labels:
    """Use the labels that the update carries; refuse to run where the threat model does not give them."""
    return Known()


def joint() -> Labels:
    """Optimize soft labels (a softmax of logits) together with the images. Source: DLG, Zhu et al. (2019)."""
    return Joint()


def idlg() -> Labels:
    """Read the label of a single sample off the last layer's gradient.

    For cross-entropy, row c of that gradient is ``(p_c - y_c) h`` with ``h`` the features, and entry c of the bias
    gradient is ``p_c - y_c``, negative for the true class alone. The paper takes the sums of the rows, which have the
    same signs as long as the features sum to something positive (sigmoid and ReLU do so, tanh need not). This rule
    takes the bias gradient where it is shared; without one the row sums where features are not negative, and otherwise
    the longest row, for the errors of all other classes add up to that of the label. For another loss, with smoothed
    labels for instance, it tries every label on the logits that the gradient gives away. Raises ValueError where none
    of this tells the label, or the gradient is zero.

    Source: iDLG, Zhao et al. (2020). Taught in: foundations/first_leak.
    """
    return IDLG()


def column_minimum() -> Labels:
    """Take the B classes whose row of the last layer's weight gradient has the smallest minimum.

    Assumes that no label occurs twice, and features that are not negative; where they can be, it takes the smallest
    entries of the bias gradient instead. Raises ValueError for more samples than classes.

    Known as: column minimum (label attack). Needs labels that are all different.
    Source: GradInversion, Yin et al. (2021). Taught in: iteration/labels.
    """
    return ColumnMinimum()


def llg(images: Tensor | None = None) -> Labels:
    """Label leakage from gradients: every negative row sum is a label, then greedily the lowest row until B are found.

    Each label found raises its row by the *impact* of one label. Without ``images`` the impact is estimated from the
    shared gradient alone (LLG). With ``images`` (N, C, H, W), noise or the attacker's own data, impact and offset are
    measured by pushing them through the model (LLG* and LLG+). Row sums say nothing where features can be negative;
    the bias gradient then takes their place, and without one a ValueError is raised.

    Known as: LLG, label leakage from gradients (label attack). Needs a last fully connected layer; the model or data of
    its own make it better.
    Source: Wainakh et al. (2022), and the authors' public code. Taught in: iteration/labels.
    """
    return LLG(images)


def counts() -> Labels:
    """Count labels by ``n_c = B (mean p_c - bias gradient_c)``, the mean prediction p estimated from the gradient.

    Every row of the weight gradient is about the bias gradient times the features, which gives mean features by least
    squares; the last layer turns them into p. Right as long as the features of the batch are alike, as in an untrained
    network. The scale and smoothing of the loss, local steps, momentum and weight decay are allowed for. Needs the
    model and a last layer with bias. Raises ValueError for a loss whose errors are not ``p - y``, for Adam, and for
    clipped samples.

    Known as: iLRG, label counts (label attack).
    Source: the idea of iLRG, Ma et al. (2023), in a simpler form of ours. Taught in: iteration/labels.
    """
    return Counts()


def rlg() -> Labels:
    """The set of labels by linear programming; refuses where it is not as large as the batch.

    Known as: RLG (label attack). Needs a last fully connected layer, and a batch smaller than the number of classes.
    Source: Dang et al. (2021). Taught in: iteration/labels.
    """
    return RLG()


def rlg_classes(update: Update, model: nn.Module) -> Tensor:
    """The set of classes (sorted, int64) that occur in the batch, as far as linear programming can tell.

    With ``S`` the rank of the weight gradient (K, d), its column space is spanned by the samples' ``p - y``. Class c
    occurs if that space holds a vector that is negative at c and positive elsewhere. Needs fewer samples than classes
    and features. Raises ValueError where neither solver solves the program.

    Source: Dang et al. (2021), section 3. Taught in: iteration/labels.
    """
    weight = LastLayer.of(update, model, scaled=True).weight
    precise = 1e-9 if weight.dtype == torch.float64 else 1e-5  # what rounding leaves of a singular value that is zero
    columns, values, _ = torch.linalg.svd(weight.double(), full_matrices=False)
    space = columns[:, values > precise * values[0]].cpu().numpy()
    classes, rank = space.shape
    # One program for all classes, which share nothing: for class c find r with (space r)_c <= -1 and
    # (space r)_other >= 0, or pay 1. As linprog takes it, A x <= b with x = (r of every class, payment of every class).
    unit = np.eye(classes)
    mixtures = sparse.block_diag([(2 * unit[c] - 1)[:, None] * space for c in range(classes)])
    payments = sparse.block_diag([-unit[c][:, None] for c in range(classes)])
    for method in ("highs", "highs-ipm"):  # the simplex method gives up on some badly scaled programs
        solved = linprog(
            np.repeat([0.0, 1.0], [classes * rank, classes]),
            sparse.hstack([mixtures, payments], format="csc"),
            -unit.flatten(),
            bounds=[(None, None)] * (classes * rank) + [(0, None)] * classes,
            method=method,
        )
        if solved.x is not None:
            return torch.from_numpy(np.flatnonzero(solved.x[classes * rank :] < 0.5)).long()
    raise ValueError(
        "rlg() could not solve its linear program, which is badly scaled for this update: "
        f"{solved.message} Use counts()."
    )


def labels_of(counted: Tensor, size: int) -> Tensor:
    """``size`` labels (sorted) from real-valued counts (K,): whole parts first, then the largest remainders."""
    counted = counted.cpu().clamp(min=0)
    counted = counted * (size / counted.sum())
    whole = counted.floor().long()
    rest = size - int(whole.sum())
    whole[(counted - whole).argsort(descending=True, stable=True)[:rest]] += 1
    return torch.repeat_interleave(torch.arange(len(whole), device="cpu"), whole)


def _needed(model: nn.Module | None, name: str) -> nn.Module:
    if model is None:
        raise ValueError(f"{name} looks at the model too: call restore(update, model).")
    return model
