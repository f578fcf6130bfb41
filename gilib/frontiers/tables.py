"""Rows of a table by gradient matching: TabLeak.

A category is one of a few levels, so its inputs are a softmax while the search runs (`softened`). Many searches from
different starts are pooled: their rows are matched, and where they agree one may be sure without knowing the truth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from gilib.data import Columns, Table
from gilib.federated import Update
from gilib.iteration import IterationAttack, Reconstruction, initialization, matching, optimizers
from gilib.iteration.labels import Labels, known
from gilib.iteration.matching import Matching
from gilib.iteration.representation import Pixels, Representation

TOLERANCE = 0.319
"""Standard deviations by which a recovered number may be off and still count as right, as in the paper's code."""


@dataclass(frozen=True)
class SoftColumns:
    """Numbers themselves, and for each column of categories a softmax over its levels: a `Representation` of rows."""

    columns: Columns

    def start(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Where the search begins."""
        return images.flatten()

    def resume(self, vector: Tensor) -> Tensor:
        """Where it begins after another search."""
        return vector

    def images(self, vector: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The rows (B, D) of a vector."""
        return softened(self.columns, vector.reshape(shape))


@dataclass(frozen=True)
class RecoveredRows:
    """What `TableAttack` returns for one victim, in an order that has nothing to do with the true one.

    ``rows`` (B, D) are pooled over all starts, ``best`` (B, D) those of the start with the lowest objective, ``labels``
    (B,) theirs. ``doubt`` (B, C) is how far the starts disagree on each cell: for a category the entropy of their
    average, from 0 to 1; for a number their standard deviation. ``objectives`` (starts,) rise.
    """

    rows: Tensor
    best: Tensor
    labels: Tensor
    doubt: Tensor
    objectives: Tensor = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class TableAttack:
    """Run ``search`` from several ``starts`` and pool the rows of ``columns`` that they end at: see `tableak`."""

    columns: Columns
    search: IterationAttack
    starts: int

    def __post_init__(self) -> None:
        if self.starts < 1 or self.search.restarts != 1:
            raise ValueError(f"expected at least one start of a search with restarts=1; got {self.starts}.")

    def reconstruct(self, model: nn.Module, update: Update, *, seed: int = 0) -> RecoveredRows:
        """Attack one victim."""
        [found] = self.reconstruct_many(model, [update], seed=seed)
        return found

    def reconstruct_many(self, model: nn.Module, updates: Sequence[Update], *, seed: int = 0) -> list[RecoveredRows]:
        """Attack several victims of the same model at once, and return the rows of each, in order.

        Raises ValueError for updates of rows with another number of inputs, and as `IterationAttack` does.
        """
        for update in updates:
            if update.input_shape != (self.columns.width,):
                raise ValueError(
                    f"expected updates of rows with {self.columns.width} inputs, as these columns have; got inputs of "
                    f"shape {update.input_shape}. Compute them on a TableBatch of the same columns."
                )
        repeated = [update for update in updates for _ in range(self.starts)]
        found = self.search.reconstruct_many(model, repeated, seed=seed)
        return [self._pooled(found[first : first + self.starts]) for first in range(0, len(found), self.starts)]

    def _pooled(self, found: Sequence[Reconstruction]) -> RecoveredRows:
        ends = sorted(found, key=lambda one: _lowest(one.losses))
        starts = torch.stack([one.images for one in ends])
        labels = ends[0].labels
        together = aligned(starts, labels)
        return RecoveredRows(
            rows=together.median(dim=0).values,
            best=together[0],
            labels=labels,
            doubt=doubt(self.columns, together),
            objectives=torch.tensor([_lowest(one.losses) for one in ends]),
        )


def tableak(
    columns: Columns,
    *,
    iterations: int = 500,
    starts: int = 12,
    rate: float = 0.1,
    soft: bool = True,
    distance: Matching | None = None,
    labels: Labels | None = None,
) -> TableAttack:
    """TabLeak: cosine matching with Adam over softened categories, from many starts whose rows are pooled.

    Needs the labels (``known()`` unless given otherwise), and the agreed ``columns``: their levels, means and
    deviations. ``distance`` replaces the cosine, ``soft=False`` searches the inputs of the categories as if they were
    numbers. ``rate`` was chosen on people who are nobody's victims. Adam takes the gradient as it is where the paper's
    code takes its sign, and all layers weigh alike.

    Known as: TabLeak.
    Source: Vero et al. (2023). Taught in: frontiers/discrete.
    """
    represented: Representation = SoftColumns(columns) if soft else Pixels()
    search = IterationAttack(
        initialization=initialization.normal(0.0, 1.0),
        labels=known() if labels is None else labels,
        matching=matching.cosine() if distance is None else distance,
        optimizer=optimizers.adam(rate),
        iterations=iterations,
        bounds=None,
        representation=represented,
    )
    return TableAttack(columns=columns, search=search, starts=starts)


def softened(columns: Columns, rows: Tensor) -> Tensor:
    """Rows (..., D) whose inputs of each column of categories went through a softmax; safe under vmap."""
    parts, place = [rows[..., : columns.numbers]], columns.numbers
    for levels, group in groupby(columns.levels):
        count = len(list(group))
        block = rows[..., place : place + count * levels].unflatten(-1, (count, levels))
        parts.append(block.softmax(dim=-1).flatten(-2))
        place += count * levels
    return torch.cat(parts, dim=-1)


def aligned(starts: Tensor, labels: Tensor) -> Tensor:
    """The rows of every start (S, B, D) in the order of the first start's; only rows of one label (B,) may swap."""
    apart = 1e6 * (labels[:, None] != labels[None]).double()
    rows = []
    for other in starts:
        cost = torch.cdist(starts[0].double(), other.double()) + apart.to(other.device)
        rows.append(other[torch.from_numpy(linear_sum_assignment(cost.cpu().numpy())[1]).to(other.device)])
    return torch.stack(rows)


def doubt(columns: Columns, starts: Tensor) -> Tensor:
    """How far aligned starts (S, B, D) disagree on each cell (B, C): see `RecoveredRows`."""
    numbers = starts[..., : columns.numbers]
    entropies = [(numbers - numbers.mean(dim=0)).square().mean(dim=0).sqrt()]
    for block in columns.blocks(starts.mean(dim=0)):
        share = block.clamp(min=1e-12)
        share = share / share.sum(dim=-1, keepdim=True)
        entropies.append(-(share * share.log()).sum(dim=-1, keepdim=True) / math.log(block.shape[-1]))
    return torch.cat(entropies, dim=-1)


def cells_right(columns: Columns, found: Tensor, truth: Tensor) -> Tensor:
    """Which cells (B, C) of the true rows (B, D) the found rows (F, D) have right, in the order of the truth.

    Each true row is compared with one found row, so that most cells are right in total; where F is below B the rows
    without a partner are all wrong. A category is right if its likeliest level is, a number within `TOLERANCE`.
    """
    return _right(columns, found, truth)[0]


def order_of(columns: Columns, found: Tensor, truth: Tensor) -> Tensor:
    """Which found row (B,) stands for each true one, as `cells_right` matches them; -1 where none does."""
    return _right(columns, found, truth)[1]


def guessed(columns: Columns, public: Table, labels: Tensor, *, by_label: bool = False) -> Tensor:
    """The best guess (B, D) without a gradient, from rows of other people: the same for everybody, or ``by_label``.

    For a category the commonest level, for a number the value that most people are within `TOLERANCE` of.
    """
    kinds = {int(label): public.rows[public.labels == label] if by_label else public.rows for label in labels}
    known_rows = {label: _commonest(columns, rows) for label, rows in kinds.items()}
    return torch.stack([known_rows[int(label)] for label in labels])


def _commonest(columns: Columns, rows: Tensor) -> Tensor:
    numbers, _ = columns.cells(rows)
    near = ((numbers[:, None] - numbers[None]).abs() <= TOLERANCE).sum(dim=1)  # (candidate, column)
    values = numbers.gather(0, near.argmax(dim=0, keepdim=True))[0]
    shares = [block.mean(dim=0) for block in columns.blocks(rows)]
    return torch.cat([values, *shares])


def _right(columns: Columns, found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if found.shape[-1] != columns.width or truth.shape[-1] != columns.width:
        got = tuple(found.shape), tuple(truth.shape)
        raise ValueError(f"expected found and true rows of {columns.width} inputs, as the columns have; got {got}.")
    numbers, levels = columns.cells(found)
    true_numbers, true_levels = columns.cells(truth)
    near = (numbers[:, None] - true_numbers[None]).abs() <= TOLERANCE
    same = torch.cat([near, levels[:, None] == true_levels[None]], dim=-1)  # (found, true, cells)
    rows, columns_ = linear_sum_assignment(-same.double().mean(dim=-1).numpy())
    right = torch.zeros(len(truth), len(columns), dtype=torch.bool, device="cpu")
    order = torch.full((len(truth),), -1, device="cpu")
    right[columns_], order[columns_] = same[rows, columns_], torch.from_numpy(rows)
    return right, order


def _lowest(losses: Tensor) -> float:
    return float(losses.nan_to_num(nan=torch.inf).min())
