"""Whether a target can be looked at at all, what an update of it weighs, and whether it is what the client declares."""

from dataclasses import replace

from gilib.audit.finding import Finding
from gilib.audit.target import Target
from gilib.iteration import matching

DECLARED = "the client as declared"
SAME = 0.01
"""Cosine distance up to which a received update counts as that of the declared client, which may round differently."""


def preflight(target: Target) -> Finding:
    """Compute the victims' updates: a note of what they are. Raises ValueError where the client cannot."""
    sent = target.updates[0].gradients
    numbers = sum(value.numel() for value in sent.values())
    silent = [name for name in sent if not any(one.gradients[name].any() for one in target.updates)]
    pixels = target.truth[0].numel()
    text = f"{numbers:,} numbers sent, {numbers / (pixels * target.batch):.3g} for each pixel of a client"
    if silent:
        text += f"; zero for every victim: {', '.join(silent[:3])}{' and more' if len(silent) > 3 else ''}"
    if len(silent) == len(sent):
        raise ValueError("the update is zero for every victim: there is nothing to look at. Is the model frozen?")
    return Finding("update", "note", text, {"numbers": numbers, "pixels": pixels, "silent": silent})


def declared(target: Target) -> Finding:
    """Whether received updates are what the declared client sends for the same images, by their cosine distance.

    Only the report learns of it: the images are the truth.
    """
    repeated, distances = replace(target, sent=()).updates, []
    for received, own in zip(target.updates, repeated, strict=True):
        names = received.gradients.keys() & own.gradients.keys()
        pair = [{name: one.gradients[name].double() for name in sorted(names)} for one in (own, received)]
        distances.append(float(matching.cosine()(*pair)))
    far = max(distances)
    if far <= SAME:
        text = f"sends such an update for these images (cosine distance {far:.1e})"
        return Finding(DECLARED, "note", text, {"distance": distances})
    text = f"sends another update for these images (cosine distance {far:.2g}). "
    if target.client.defenses or target.client.local.shuffle:
        text += "That may be what its defenses or its order drew at random; otherwise it is declared wrongly."
        return Finding(DECLARED, "note", text, {"distance": distances})
    text += "Check the images and their labels, the mode, the loss and the local steps."
    return Finding(DECLARED, "no answer", text, {"distance": distances})
