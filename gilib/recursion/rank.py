"""Does a network leak? Equations against unknowns, before any attack runs.

Three answers, each dearer and nearer to the truth than the one before: *count* the equations of each layer
(``rank_analysis``), compute the *rank* of each layer's linear system (``rank_analysis(..., numerical=True)``), compute
the rank of the derivative of the whole gradient by the image (``jacobian_rank``).
"""

import math
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor, nn

from gilib.federated import Mode, seeded_generator
from gilib.recursion.equations import LINEAR, Shape, Step, independent_equations, padded_zeros, passes, trace

Verdict = Literal["determined", "short", "cannot tell"]

REASONS: dict[tuple[type[nn.Module], ...], str] = {
    (nn.MaxPool2d, nn.AdaptiveMaxPool2d): "which pixel of a window was the largest is not shared",
    (nn.modules.batchnorm._BatchNorm,): "it normalizes with the client's own statistics",
    (nn.modules.dropout._DropoutNd,): "what the client dropped is not shared",
    (nn.MultiheadAttention, nn.TransformerEncoderLayer): "attention weighs the inputs by the inputs",
    (nn.RNNBase,): "a recurrent layer uses its weights more than once",
    (nn.GELU, nn.SiLU): "two inputs can give the same output",
}


@dataclass(frozen=True, kw_only=True)
class LayerRank:
    """One layer: the size of its input, and the equations about it once everything above is known.

    ``gradient`` counts the weights whose gradient is shared, ``forward`` the outputs, and ``certain`` those of both
    that hold whatever the image is: a ReLU hides the outputs below zero. ``padding`` is the number of zeros around the
    input: each would be one more unknown and one more equation, so they are not counted. ``rank`` is how many equations
    are independent at a random image, if that was computed. ``parameters`` counts all that the row shares, biases
    included. ``reason`` says why a layer was not analysed.
    """

    name: str
    kind: str
    unknowns: int
    gradient: int
    forward: int
    certain: int
    parameters: int
    padding: int = 0
    rank: int | None = None
    reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """``determined``, ``short`` of equations, or ``cannot tell``; from the rank where there is one."""
        if self.rank is not None:
            return "determined" if self.rank >= self.unknowns else "short"
        if self.reason or self.certain < self.unknowns <= self.gradient + self.forward:
            return "cannot tell"
        return "determined" if self.certain >= self.unknowns else "short"

    @property
    def index(self) -> float | None:
        """Equations over unknowns, the independent ones or else all that may hold. None for a layer not analysed."""
        if self.reason:
            return None
        return (self.gradient + self.forward if self.rank is None else self.rank) / self.unknowns


@dataclass(frozen=True)
class RankReport:
    """The analysis of a network: ``layers`` from the first to the last, as ``print(report)`` shows them.

    ``start`` is the place of the first linear layer with a bias, whose input is the weight gradient over the bias
    gradient: no layer above it matters. ``parameters`` counts the shared numbers, ``pixels`` those of the image.
    """

    layers: tuple[LayerRank, ...]
    start: int
    parameters: int
    pixels: int

    @property
    def needed(self) -> tuple[LayerRank, ...]:
        """The layers that a recursion has to pass, from the first to the one where it can start."""
        return self.layers[: self.start + 1]

    @property
    def first_short(self) -> LayerRank | None:
        """The first layer that a recursion, coming from the output, finds short of equations."""
        return next((layer for layer in reversed(self.needed) if layer.verdict == "short"), None)

    @property
    def bound(self) -> int:
        """More independent equations about the image than this the gradient cannot give, whatever the layers are.

        All that the layers above layer i see of the image is the output of layer i. So only that output counts, with
        the gradients of the layers up to i; the bound is the smallest such sum. Behind the last layer it is the number
        of parameters, the dimension bound of Geiping et al. (2020).

        Taught in: recursion/rank.
        """
        below = [0, *accumulate(layer.parameters for layer in self.layers)]
        cuts = [
            before + layer.forward + (layer.parameters if layer.reason else layer.gradient)
            for before, layer in zip(below, self.layers, strict=False)
        ]
        first = self.layers[0].rank
        return min(self.parameters, *cuts, *([] if first is None else [first]))

    @property
    def predicts_leak(self) -> bool | None:
        """False where the ``bound`` is below the pixels, True where every needed layer is determined, else None.

        False says that other real-valued images have the same gradient. It is no safety: whoever knows that pixels lie
        between 0 and 1, or are whole numbers, may still find the one image.
        """
        if self.bound < self.pixels:
            return False
        return True if all(layer.verdict == "determined" for layer in self.needed) else None

    @property
    def index(self) -> float | None:
        """The smallest index of the needed layers, None if one of them was not analysed."""
        found = [layer.index for layer in self.needed]
        known = [value for value in found if value is not None]
        return min(known) if len(known) == len(found) else None

    def table(self) -> str:
        """The rows as aligned text, with ``≤`` before outputs that a ReLU may hide, and the conclusion below."""
        head = ("layer", "kind", "unknowns", "gradient", "forward", "padding", "rank", "verdict")
        rows = [head, *(self._row(place, layer) for place, layer in enumerate(self.layers))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                text.ljust(width) if column in (0, 1, 7) else text.rjust(width)
                for column, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, self._conclusion()])

    __str__ = table

    def _row(self, place: int, layer: LayerRank) -> tuple[str, ...]:
        at_most = "≤" if layer.certain < layer.gradient + layer.forward and not layer.reason else ""
        rank = "-" if layer.rank is None else str(layer.rank)
        numbers = (str(layer.unknowns), str(layer.gradient), f"{at_most}{layer.forward}", str(layer.padding), rank)
        return (layer.name, layer.kind, *numbers, layer.verdict if place <= self.start else "not needed")

    def _conclusion(self) -> str:
        if self.predicts_leak is False:
            return f"not determined among real-valued images: at most {self.bound} equations for {self.pixels} pixels"
        if self.predicts_leak:
            return "predicts a leak: every layer that matters is determined"
        doubts = [layer for layer in self.needed if layer.verdict != "determined"]
        why = {"short": "short of equations, unless layers below help", "cannot tell": "a ReLU may hide outputs"}
        return "\n".join(f"cannot tell: {one.name}, {one.reason or why[one.verdict]}" for one in doubts)


def rank_analysis(
    model: nn.Module, shape: Shape, *, mode: Mode = "eval", numerical: bool = False, seed: int = 0
) -> RankReport:
    """Compare equations with unknowns, layer by layer, for the gradient of one image of ``shape`` (C, H, W).

    Takes any model that is a chain of layers (see ``gilib.chain``); one that is not gets a single row. Convolutions,
    linear layers and average pooling are analysed, together with the activation and the batch norm (eval
    mode) behind them; any other layer gets the verdict ``cannot tell`` and the reason. A row supposes that all layers
    above are solved. ``numerical=True`` adds the rank of each system, at a random image and a random gradient of the
    logits, both drawn with ``seed``; a layer with more than 4096 unknowns keeps its count. A parameter that does not
    require a gradient is not shared. Raises ValueError for images that do not fit the model.

    Our own index, in the spirit of the rank analysis of Zhu & Blaschko (2021), not their formula.

    Known as: rank analysis (analysis). Needs the model alone.
    Taught in: recursion/rank.
    """
    steps, logits = trace(model, shape, mode=mode, seed=seed)
    if not steps:
        raise ValueError("the model has no layer that computes anything, so there is nothing to analyse.")
    used = [id(value) for step in steps for value in step.layer.parameters()]
    tied = [any(used.count(id(value)) > 1 for value in step.layer.parameters()) for step in steps]
    rows = [_count(step, mode, tied=more) for step, more in zip(steps, tied, strict=True)]
    # The logits themselves are not shared: only the gradient of the last layer's weight is certain.
    rows[-1] = replace(rows[-1], certain=min(rows[-1].certain, rows[-1].gradient))
    if numerical:
        rows = _with_ranks(rows, steps, logits, seed)
    starts = [place for place, step in enumerate(steps) if not rows[place].reason and _can_start(step)]
    shared = sum(value.numel() for value in model.parameters() if value.requires_grad)
    return RankReport(tuple(rows), min(starts, default=len(rows) - 1), shared, math.prod(shape))


def _count(step: Step, mode: Mode, *, tied: bool) -> LayerRank:
    kind, weight = type(step.layer).__name__, getattr(step.layer, "weight", None)
    gradient = weight.numel() if step.linear and weight is not None and weight.requires_grad else 0
    reason = ""
    if isinstance(step.layer, LINEAR) and not step.linear:
        reason = f"{kind} computes with its weight in a way of its own"
    elif not step.linear and not passes(step.layer, mode):
        reason = next((text for kinds, text in REASONS.items() if isinstance(step.layer, kinds)), "")
        reason = reason or step.unknown or f"the analysis does not know {kind}"
    elif tied:
        reason = "the network uses its weights more than once"
    forward = step.output.numel()
    return LayerRank(
        name=step.name,
        kind=kind,
        unknowns=step.inputs.numel(),
        gradient=gradient,
        forward=forward,
        certain=0 if reason else gradient + (0 if step.hides else forward),
        parameters=step.parameters,
        padding=padded_zeros(step.layer, step.inputs),
        reason=reason,
    )


def _can_start(step: Step) -> bool:
    """Whether the input is a row of the weight gradient over the bias gradient, whatever stands above."""
    layer = step.layer
    if not isinstance(layer, nn.Linear) or step.inputs.ndim != 2:
        return False
    return layer.weight.requires_grad and layer.bias is not None and layer.bias.requires_grad


def _with_ranks(rows: list[LayerRank], steps: list[Step], logits: Tensor, seed: int) -> list[LayerRank]:
    """The rows with the rank of each analysed layer, for a random gradient of the ``logits``."""
    outside = torch.randn(logits.shape, generator=seeded_generator(seed, 1), dtype=torch.float64, device="cpu")
    known = [place for place, step in enumerate(steps) if step.linear and not rows[place].reason]
    outputs = [steps[place].output for place in known]
    gradients = torch.autograd.grad(logits, outputs, outside, allow_unused=True, materialize_grads=True)
    rows = list(rows)
    for place, gradient in zip(known, gradients, strict=True):
        row = replace(rows[place], rank=independent_equations(steps[place], gradient, outputs_known=True))
        if place == len(rows) - 1 and row.verdict == "determined":  # is it without the logits, too?
            certain = independent_equations(steps[place], gradient, outputs_known=False)
            if certain is not None and certain < row.unknowns:
                row = replace(row, rank=None, certain=certain)
        rows[place] = row
    return rows
