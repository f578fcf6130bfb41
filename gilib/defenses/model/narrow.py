"""Narrower networks, whose gradient has fewer equations than the image has pixels."""

from collections.abc import Callable, Sequence

from torch import nn


def widest_safe(build: Callable[[int], nn.Module], widths: Sequence[int], *, safe: Callable[[nn.Module], bool]) -> int:
    """The largest of ``widths`` whose network ``build(width)`` is ``safe``, whatever that is to mean.

    A prediction such as ``rank_analysis(net, shape).predicts_leak is False`` makes it fewer filters by rank analysis.
    Raises ValueError if no width is safe.

    Known as: narrow networks (defense). Needs a network that all clients change alike, and accuracy to spare.
    Source: the idea of Zhu & Blaschko (2021), who count equations; for the number of parameters, Geiping et al. (2020).
    Taught in: defenses/model.
    """
    for width in sorted(widths, reverse=True):
        if safe(build(width)):
            return width
    raise ValueError(f"no network is safe at a width of {sorted(widths)}: try smaller widths, or another network.")
