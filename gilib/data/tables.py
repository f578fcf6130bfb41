"""A table: columns of numbers and of categories, the people in it, and the numbers that a network is given."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gilib.data.batch import _whole_numbers
from gilib.data.rows import TableBatch

Record = Sequence[float | str]


@dataclass(frozen=True)
class Column:
    """A column of numbers, or with ``levels`` of categories.

    A number enters the network as ``(number - mean) / deviation``, a category as a one among zeros.
    """

    name: str
    levels: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def width(self) -> int:
        """How many inputs of the network it takes."""
        return len(self.levels) or 1


@dataclass(frozen=True)
class Columns:
    """The columns that client and server agreed on, numbers first, then categories.

    Raises ValueError for no columns, and for numbers behind categories.
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        kinds = [bool(column.levels) for column in self.columns]
        if not kinds or kinds != sorted(kinds):
            raise ValueError("expected at least one column, and the columns of numbers before those of categories.")

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def numbers(self) -> int:
        """How many columns hold numbers."""
        return sum(not column.levels for column in self.columns)

    @property
    def levels(self) -> list[int]:
        """How many levels each column of categories has."""
        return [len(column.levels) for column in self.columns if column.levels]

    @property
    def width(self) -> int:
        """How many inputs of the network a row is, D."""
        return sum(column.width for column in self.columns)

    def encode(self, records: Sequence[Record]) -> Tensor:
        """Rows (N, D) in float64. Raises ValueError for rows of unequal length, unknown categories and no numbers."""
        rows = torch.zeros(len(records), self.width, dtype=torch.float64, device="cpu")
        for row, record in enumerate(records):
            if len(record) != len(self):
                raise ValueError(f"expected {len(self)} entries in row {row}, one a column; got {len(record)}.")
            place = 0
            for column, entry in zip(self.columns, record, strict=True):
                where, value = _encoded(column, entry, row)
                rows[row, place + where] = value
                place += column.width
        return rows

    def decode(self, rows: Tensor) -> list[tuple[float | str, ...]]:
        """Records of rows (N, D): numbers in their own unit, and of each category the likeliest level."""
        standard, likeliest = self.cells(rows)
        records: list[tuple[float | str, ...]] = []
        for numbers, levels in zip(standard.tolist(), likeliest.tolist(), strict=True):
            entries = zip(self.columns, [*numbers, *levels], strict=True)
            records.append(tuple(c.levels[e] if c.levels else c.mean + c.deviation * e for c, e in entries))
        return records

    def cells(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The standardised numbers (..., numbers) and the likeliest levels (..., categories) of rows (..., D)."""
        blocks = self.blocks(rows)
        levels = [block.argmax(dim=-1) for block in blocks]
        return rows[..., : self.numbers], torch.stack(levels, -1) if levels else rows[..., :0].long()

    def blocks(self, rows: Tensor) -> list[Tensor]:
        """The inputs (..., levels) of each column of categories, from rows (..., D)."""
        return list(rows[..., self.numbers :].split(self.levels, dim=-1)) if self.levels else []


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Labelled rows (N, D) of the same ``columns``: a data set of people's records."""

    rows: Tensor
    labels: Tensor
    columns: Columns
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        TableBatch(self.rows, self.labels)
        if self.rows.shape[1] != self.columns.width:
            raise ValueError(f"expected rows of {self.columns.width} inputs, got {self.rows.shape[1]}: encode them.")

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Table({len(self)} rows, {len(self.columns)} columns, {self.columns.width} inputs)"

    def batch(self, indices: int | Sequence[int] | Tensor) -> TableBatch:
        """The people at ``indices``, as the batch of one client.

        Raises IndexError for an index outside the table, ValueError for one that is no whole number or comes twice: a
        client holds a person once.
        """
        chosen = _whole_numbers(indices)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"expected indices from 0 to {len(self) - 1}, got {chosen.tolist()}.")
        if len(chosen.unique()) != len(chosen):
            twice = sorted({int(one) for one in chosen if (chosen == one).sum() > 1})
            raise ValueError(f"expected every person once in a batch, got the indices {twice} more than once.")
        return TableBatch(self.rows[chosen], self.labels[chosen])


def load_table(name: str = "breast_cancer", *, numbers: int = 10, levels: tuple[int, int] = (4, 3)) -> Table:
    """A medical table that scikit-learn ships, with columns of numbers and of categories.

    ``"breast_cancer"``: 569 women, for each the mean of ten measurements of cell nuclei, their ten errors and their ten
    worst values, and whether the tumour is malignant (0) or benign (1). The first ``numbers`` of the ten means stay
    numbers, standardised; the errors become categories of ``levels[0]`` equal shares of the people, the worst values of
    ``levels[1]``, and means that stay no numbers of ``levels[0]``. That is our choice: the table itself holds numbers
    only. Raises ValueError for another name, and for fewer than two levels.
    """
    if name != "breast_cancer":
        raise ValueError(f'expected "breast_cancer", the one table that we know how to read; got {name!r}.')
    if not 0 <= numbers <= 10 or min(levels) < 2:
        raise ValueError(f"expected 0 to 10 numbers and at least two levels, got {numbers} and {levels}.")
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    values = torch.from_numpy(table.data).double()
    columns, entries = [], []
    for place, title in enumerate(str(one) for one in table.feature_names):
        value, count = values[:, place], levels[1] if place >= 20 else levels[0]
        if place < numbers:
            columns.append(Column(title, (), float(value.mean()), float(value.std())))
            entries.append(value.tolist())
            continue
        cuts = value.quantile(torch.arange(1, count, dtype=torch.float64, device="cpu") / count)
        names = tuple(f"{part + 1} of {count}" for part in range(count))
        columns.append(Column(title, names))
        entries.append([names[part] for part in (value[:, None] > cuts).sum(dim=1).tolist()])
    kept = Columns(tuple(columns))
    return Table(
        kept.encode(list(zip(*entries, strict=True))),
        torch.from_numpy(table.target).long(),
        kept,
        ("malignant", "benign"),
    )


def _encoded(column: Column, entry: float | str, row: int) -> tuple[int, float]:
    """Which input of the column is not zero, and its value."""
    if column.levels:
        if entry not in column.levels:
            known = ", ".join(map(repr, column.levels))
            raise ValueError(
                f"row {row} has the category {entry!r} in column {column.name!r}; expected one of {known}."
            )
        return column.levels.index(str(entry)), 1.0
    if isinstance(entry, str):
        raise ValueError(f"row {row} has {entry!r} in column {column.name!r}; expected a number.")
    return 0, (float(entry) - column.mean) / column.deviation
