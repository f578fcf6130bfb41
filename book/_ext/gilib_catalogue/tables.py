"""The tables of two public lists, each row with what this book runs; and the lists that the facts come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gilib_catalogue.markup import chapter_links, link, table
from gilib_catalogue.runs import Chapter, Here, claims_of
from gilib_catalogue.sources import Origin
from gilib_catalogue.works import ROOT, Work, lines_of

TABLES = ROOT / "book" / "catalogue-tables.csv"
LISTS = ROOT / "book" / "catalogue-lists.csv"
GRADATTACK = ("attacks", "plain defenses", "encrypting defenses")


@dataclass(frozen=True)
class Row:
    """A row of a published table: a name, the work, what it needs besides gradients, whether that library has it.

    ``run_as`` is the work that this book runs in its place, ``names`` what the library calls the method of this row:
    a work may have several methods, and the row is about one of them.
    """

    table: str
    name: str
    key: str
    needs: str
    supported: str
    run_as: str
    names: str

    def runs(self, here: dict[str, Here], chapters: dict[str, Chapter]) -> dict[str, tuple[str, ...]]:
        """The chapters that run the method of this row, and by which names of the library each does."""
        found = {}
        for chapter in here.get(self.run_as or self.key, Here()).run:
            used = tuple(name for name in self.names.split(";") if name and chapters[chapter].uses(name))
            if used:
                found[chapter] = used
        return found


@dataclass(frozen=True)
class List:
    """A public list of papers: its short name, address, the commit that was read, its date, and its lines."""

    source: str
    address: str
    commit: str
    seen: str
    lines: str


def rows() -> list[Row]:
    """The rows of the published tables. Raises ValueError for other columns."""
    return [Row(*line) for line in lines_of(TABLES, tuple(Row.__dataclass_fields__))]


def lists() -> list[List]:
    """The lists that the catalogue was made from. Raises ValueError for other columns."""
    columns = ("source", "list", "commit", "seen", "lines")
    return [List(*line) for line in lines_of(LISTS, columns)]


def rows_complain(
    works: list[Work], here: dict[str, Here], chapters: dict[str, Chapter], library: Iterable[Origin]
) -> list[str]:
    """Demand that each row is a work, that its names are the library's, and that every list and source is known."""
    keys, complaints = {work.key for work in works}, []
    claimed = {(key, origin.name) for origin in library for key, _, _ in claims_of(origin, chapters)}
    for row in rows():
        complaints += [
            f"catalogue-tables.csv: {key} is no work" for key in (row.key, row.run_as) if key and key not in keys
        ]
        complaints += [
            f"catalogue-tables.csv: {row.name} is run by {name}, whose docstring has another source or none"
            for name in row.names.split(";")
            if name and (row.run_as or row.key, name) not in claimed
        ]
        run = here.get(row.run_as or row.key, Here()).run
        if row.names and not row.runs(here, chapters):
            complaints.append(f"catalogue-tables.csv: no chapter runs {row.name} by {row.names}")
        if run and not row.names:
            complaints.append(f"catalogue-tables.csv: {row.name} is run by {', '.join(run)}; fill in names")
    known = {one.source for one in lists()} | {"book", "reading"}
    used = {source for work in works for source in work.values("sources")}
    complaints += [f"catalogue-lists.csv: {source} is used by works and not listed" for source in sorted(used - known)]
    return complaints + [f"catalogue-lists.csv: no work comes from {source}" for source in sorted(known - used)]


def gradattack(works: list[Work], here: dict[str, Here], chapters: dict[str, Chapter]) -> str:
    """The three tables of the GradAttack list as HTML."""
    found, parts = {work.key: work for work in works}, []
    ours, theirs = "This book runs it in", "In their library"
    heads = {
        "attacks": ["Attack", ours, "Paper", "Venue", "Needs besides gradients", theirs, "Authors' code"],
        "plain defenses": ["Defense of plain gradients", ours, "Paper", "Venue", theirs, "Authors' code"],
        "encrypting defenses": ["Defense that encrypts", ours, "Paper", "Venue", "Authors' code"],
    }
    for name in GRADATTACK:
        lines = [_gradattack_row(row, found[row.key], row.runs(here, chapters)) for row in rows() if row.table == name]
        parts.append(table(heads[name], lines))
    return "\n".join(parts)


def _gradattack_row(row: Row, work: Work, runs: dict[str, tuple[str, ...]]) -> list[str]:
    paper = link(f"#work-{row.key}", work.title)
    run = "<br>".join(
        f"{chapter_links([chapter])} ({', '.join(f'<code>{name}</code>' for name in names)})"
        for chapter, names in runs.items()
    )
    if run and row.run_as:
        run += f"<br>by {link(f'#work-{row.run_as}', 'its later paper')}"
    code = link(work.code, "code") if work.code else ""
    extra = [row.needs] if row.table == "attacks" else []
    supported = [row.supported] if row.supported else []
    return [row.name, run or "not run", paper, f"{work.venue} {work.year}", *extra, *supported, code]


def surveys(works: list[Work], here: dict[str, Here]) -> str:
    """The surveys of the SuperX612 list as HTML, with the chapters that cite them."""
    found, lines = {work.key: work for work in works}, []
    for row in rows():
        if row.table == "surveys":
            work, cited = found[row.key], here[row.key].cited
            said = chapter_links(cited) if cited else "not cited"
            lines.append([link(f"#work-{row.key}", work.title), work.shown_authors, f"{work.venue} {work.year}", said])
    return table(["Survey", "Authors", "Venue", "This book cites it in"], lines)


def provenance(works: list[Work]) -> str:
    """The lists that the catalogue was made from as HTML: what was read, and how many works here each of them has."""
    counts = Counter(source for work in works for source in work.values("sources"))
    lines = [
        [
            one.source,
            link(f"https://{one.address}", one.address),
            f"{one.commit}, {one.seen}",
            one.lines,
            str(counts[one.source]),
        ]
        for one in lists()
    ]
    lines.append(["book", "works that this book cites, whether or not a list has them", "", "", str(counts["book"])])
    lines.append(["reading", "found while reading", "", "", str(counts["reading"])])
    return table(["Source", "List", "Read at", "Its lines", "Works here"], lines)
