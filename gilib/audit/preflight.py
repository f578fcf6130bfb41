"""Whether a target can be looked at at all, and what an update of it weighs."""

from gilib.audit.finding import Finding
from gilib.audit.target import Target


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
