"""The works of ``book/catalogue.csv``."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CATALOGUE = ROOT / "book" / "catalogue.csv"
BIBLIOGRAPHY = ROOT / "book" / "references.bib"
OUTSIDE = ROOT / "book" / "catalogue-outside.csv"


@dataclass(frozen=True)
class Work:
    """One line of the catalogue; an empty string is unknown or does not apply, ``;`` joins several values."""

    key: str
    title: str
    authors: str
    authors_from: str
    year: str
    venue: str
    arxiv: str
    arxiv_from: str
    doi: str
    url: str
    kind: str
    field: str
    family: str
    modality: str
    setting: str
    access: str
    threat_model: str
    stops: str
    max_batch: str
    resolution: str
    code: str
    bib: str
    by_hand: str
    sources: str
    note: str

    def values(self, column: str) -> list[str]:
        """The values of a column: the letters of ``threat_model`` and ``stops``, the parts of what ``;`` joins."""
        cell = getattr(self, column)
        return list(cell) if column in ("threat_model", "stops") else [part for part in cell.split(";") if part]

    @property
    def open(self) -> list[str]:
        """What a contributor could fill in: the author, the arXiv number (recalled, not checked), the link."""
        missing = {
            "author": self.authors_from in ("", "memory"),
            "arXiv number": self.arxiv_from == "memory",
            "link": not self.url,
        }
        return [name for name, is_open in missing.items() if is_open]

    @property
    def shown_authors(self) -> str:
        """The first author as far as somebody checked; empty otherwise."""
        return "" if "author" in self.open else self.authors

    @property
    def shown_arxiv(self) -> str:
        """The arXiv number as far as somebody checked; empty otherwise."""
        return "" if "arXiv number" in self.open else self.arxiv

    @property
    def shown_url(self) -> str:
        """The link, unless it stands on an arXiv number that nobody checked."""
        return "" if "arXiv number" in self.open and self.arxiv in self.url else self.url


COLUMNS = tuple(field.name for field in fields(Work))


def lines_of(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    """The cells of a CSV file, line by line. Raises ValueError for other columns or a line of another length."""
    with path.open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file)
    if tuple(head) != columns:
        raise ValueError(f"{path.name}: expected the columns {', '.join(columns)}; got {', '.join(head)}")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(columns):
            raise ValueError(
                f"{path.name}, line {number}: expected {len(columns)} cells, got {len(line)}; quote commas"
            )
    return lines


def read(path: Path = CATALOGUE) -> list[Work]:
    """The works of a catalogue. Raises ValueError where it has other columns or a line of another length."""
    return [Work(*line) for line in lines_of(path, COLUMNS)]


def outside(path: Path = OUTSIDE) -> set[str]:
    """The keys of the bibliography that the catalogue leaves out, as they are not about what leaks."""
    return {key for key, _ in lines_of(path, ("key", "subject"))}
