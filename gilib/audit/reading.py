"""What can be read off an update without any search: labels, features, and how many equations there are."""

from collections.abc import Callable

import torch
from torch import Tensor

from gilib import metrics
from gilib.audit.finding import Finding, Level
from gilib.audit.target import Target
from gilib.federated import as_function, checked_logits
from gilib.iteration import labels
from gilib.iteration.labels import Labels
from gilib.iteration.layers import last_layer_input
from gilib.recursion import layer_inputs, rank_analysis

RULES: dict[str, Callable[[], Labels]] = {"sign of the bias": labels.idlg, "counts": labels.counts, "LLG": labels.llg}
CLOSE = 0.05
"""Features count as read where their relative error is below this."""


def read_labels(target: Target) -> Finding:
    """Which labels the last layer gives away, by the best rule; chance is what equally likely classes would give."""
    classes, tried = _classes(target), dict[str, float]()
    refused: list[str] = []
    for name, rule in RULES.items():
        if name == "sign of the bias" and target.batch > 1:
            continue
        try:
            found = [rule().restore(update, target.model) for update in target.updates]
        except ValueError as error:
            refused.append(f"{name}: {error}")
            continue
        pairs = zip(found, target.batches, strict=True)
        hits = [metrics.labels_read(one, batch.labels) for one, batch in pairs if one is not None]
        tried[name] = sum(hits) / len(hits)
    if not tried:
        return Finding("labels", "no answer", "no rule applies: " + refused[0])
    best, chance = max(tried, key=lambda name: tried[name]), 1 / classes
    level: Level = "partial" if tried[best] > min(3 * chance, (1 + chance) / 2) else "nothing"
    text = f"{tried[best]:.0%} of the labels read by the rule {best!r}, where a guess has {chance:.0%}"
    return Finding("labels", level, text, {"share": tried, "classes": classes})


def read_features(target: Target) -> Finding:
    """What entered the last fully connected layer, by division: how far it is from the mean features of the batch."""
    measure = last_layer_input(target.model, mode=target.client.mode)
    if measure is None:
        raise ValueError("the model has no last layer whose input could be compared.")
    errors = []
    for update, batch in zip(target.updates, target.batches, strict=True):
        like = next(iter(update.gradients.values()))
        true = measure(batch.images.to(like)).mean(dim=0).flatten()
        found = list(layer_inputs(update).values())[-1].to(true)
        if found.shape != true.shape:
            raise ValueError("the last fully connected layer of the update is not the one before the logits.")
        errors.append(float((found - true).norm() / true.norm().clamp_min(1e-12)))
    close = sum(error < CLOSE for error in errors)
    what = "features" if target.batch == 1 else "mean features"
    text = f"{what} of the last layer within {CLOSE:.0%} for {close} of {len(errors)} victims (best: {min(errors):.0%})"
    return Finding("features", "partial" if close else "nothing", text, {"error": errors})


def count_equations(target: Target) -> Finding:
    """Whether there are enough equations for one image; a note, since a box or grey levels may make up for them."""
    shape = target.updates[0].image_shape
    report = rank_analysis(target.model, shape, mode=target.client.mode)
    says = {
        True: "every layer that matters is determined: expect exact recovery of one image",
        False: "other real-valued images have the same gradient, which is no safety",
        None: "cannot tell",
    }[report.predicts_leak]
    text = f"{says}; at most {report.bound:,} equations for {report.pixels:,} pixels"
    return Finding("equations", "note", text, {"bound": report.bound, "pixels": report.pixels})


def with_labels(target: Target) -> tuple[list[Tensor], tuple[str, ...]]:
    """The labels that searches work with, and what had to be assumed: restored ones where those are right.

    Otherwise the true ones, since a search with a wrong label fails for a reason that protects nobody.
    """
    rule = labels.idlg() if target.batch == 1 else labels.counts()
    try:
        restored = [rule.restore(update, target.model) for update in target.updates]
    except ValueError:
        restored = []
    found = [one for one in restored if one is not None]
    size = target.client.local.batch_size
    ordered = size is not None and size < target.batch  # which sample is in which step: the order matters as well
    true = [batch.labels for batch in target.batches]
    if len(found) == len(true) and all(_same(*pair, ordered) for pair in zip(found, true, strict=True)):
        return found, ()
    return true, ("labels",)


def _same(found: Tensor, true: Tensor, ordered: bool) -> bool:
    found = found.cpu()
    return torch.equal(found, true) if ordered else torch.equal(found.sort().values, true.sort().values)


def _classes(target: Target) -> int:
    model = target.model
    forward, parameters = as_function(model, mode="eval")
    like = next(iter(parameters.values()))
    with torch.no_grad():
        return checked_logits(forward, parameters, target.truth[:1].to(like)).shape[-1]
