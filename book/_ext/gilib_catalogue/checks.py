"""What must hold in the catalogue: each check returns complaints that say where, what was expected and what to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from gilib_catalogue import taxonomy
from gilib_catalogue.bibliography import Reference, folded
from gilib_catalogue.runs import Chapter, by_hand, claims_of
from gilib_catalogue.sources import Origin
from gilib_catalogue.works import COLUMNS, Work

ADDRESS = re.compile(r"https?://[\w.-]+\.[a-z]{2,}(/[^\s\"'<>\[\]{}|\\^`]*)?", re.IGNORECASE)
KEY = re.compile(r"[a-z]+\d{4}[a-z0-9]*")
NAME = r"[^\W\d_][\w'’-]+( [\w'’-]{2,})*"
AUTHORS = re.compile(rf"{NAME}( and {NAME}| et al\.)?")
NUMBER = re.compile(r"(\d\d)(\d\d)\.(\d{4}|\d{5})")
WORDS = {
    "kind": taxonomy.KINDS,
    "field": taxonomy.FIELDS,
    "family": taxonomy.FAMILIES,
    "modality": taxonomy.MODALITIES,
    "setting": ("", *taxonomy.SETTINGS),
    "access": taxonomy.ACCESS,
    "threat_model": taxonomy.LETTERS,
    "stops": taxonomy.LETTERS,
    "authors_from": ("", *taxonomy.AUTHORS_FROM),
    "arxiv_from": ("", *taxonomy.ARXIV_FROM),
}
ONE = ("kind", "field", "family", "setting", "authors_from", "arxiv_from")  # the others take several
NEEDED = ("key", "title", "year", "venue", "kind", "field", "family", "modality", "sources")


def repeated(works: list[Work]) -> list[str]:
    """Refuse a key, a title (whatever its case and punctuation), an arXiv number or a DOI that two works share."""
    spellings = {
        "key": lambda work: work.key,
        "title": lambda work: folded(work.title),
        "arXiv number": lambda work: work.arxiv,
        "DOI": lambda work: work.doi.lower(),
        "entry of the bibliography": lambda work: work.bib,
    }
    complaints = []
    for name, spelling in spellings.items():
        counts = Counter(spelling(work) for work in works if spelling(work))
        twice = {value for value, count in counts.items() if count > 1}
        complaints += [f"{work.key}: another work has the same {name}" for work in works if spelling(work) in twice]
    return complaints


def vocabulary(works: list[Work]) -> list[str]:
    """Demand the words of the taxonomy, and something in every column that each work needs."""
    complaints = [
        f"{work.key or work.title}: {column} is empty"
        for work in works
        for column in NEEDED
        if not getattr(work, column)
    ]
    for work in works:
        for column, words in WORDS.items():
            values = [getattr(work, column)] if column in ONE else work.values(column)
            complaints += [
                f"{work.key}: {column} is {value!r}; expected one of {', '.join(filter(None, words))}"
                for value in values
                if value not in words
            ]
    return complaints


def form(works: list[Work]) -> list[str]:
    """Demand well-formed keys, years, numbers, addresses and cells."""
    complaints = []
    for work in works:
        cells = [name for name in COLUMNS if getattr(work, name) != " ".join(getattr(work, name).split())]
        complaints += [f"{work.key}: space around, or a line break or two spaces in {name}" for name in cells]
        links = [name for name in ("url", "code") if getattr(work, name) and not ADDRESS.fullmatch(getattr(work, name))]
        complaints += [f"{work.key}: {name} is no address: {getattr(work, name)}" for name in links]
        if not KEY.fullmatch(work.key):
            complaints.append(
                f"{work.key}: a key is a family name, the year and a word, in small letters without accents"
            )
        if work.authors and not AUTHORS.fullmatch(work.authors):
            complaints.append(
                f"{work.key}: authors is {work.authors!r}; expected family names: A, A and B, or A et al."
            )
        if not work.year.isdigit() or int(work.year) not in taxonomy.YEARS:
            complaints.append(
                f"{work.key}: the year is {work.year!r}; expected {taxonomy.YEARS[0]} to {taxonomy.YEARS[-1]}"
            )
        if work.doi and not re.fullmatch(r"10\.\d{4,}/\S+", work.doi):
            complaints.append(f"{work.key}: {work.doi!r} is no DOI; expected 10.number/name without https://")
        complaints += _number(work)
    return complaints


def _number(work: Work) -> list[str]:
    """An arXiv number has its form, a year near that of the work, and the source it comes from."""
    if bool(work.arxiv) != bool(work.arxiv_from):
        return [f"{work.key}: an arXiv number needs arxiv_from, and the other way round"]
    match = NUMBER.fullmatch(work.arxiv)
    if work.arxiv and not (match and 1 <= int(match[2]) <= 12):
        return [f"{work.key}: {work.arxiv!r} is no arXiv number; expected four digits, a point, four or five digits"]
    if match and work.year.isdigit() and not -1 <= int(work.year) - 2000 - int(match[1]) <= 3:
        return [f"{work.key}: the year {work.year} does not go with the arXiv number {work.arxiv}"]
    linked = re.search(r"arxiv\.org/abs/([\d.]+)", work.url)
    if linked and linked[1] != work.arxiv:
        return [f"{work.key}: the link leads to arXiv {linked[1]}, the number is {work.arxiv or 'empty'}"]
    return []


def order(works: list[Work]) -> list[str]:
    """Demand the newest first, then by title, so that a new line has one place."""
    wanted = sorted(works, key=lambda work: (-int(work.year) if work.year.isdigit() else 0, work.title.casefold()))
    for number, (work, other) in enumerate(zip(works, wanted, strict=True)):
        if work != other:
            here = wanted.index(work)
            wrong, place = (work, here) if here > number else (other, number)
            where = f"after {wanted[place - 1].key}" if place else "first"
            return [f"{wrong.key}: not in its place, newest first, then by title; put it {where}"]
    return []


def tied_to_the_bibliography(works: list[Work], references: dict[str, Reference], outside: set[str]) -> list[str]:
    """Demand that ``bib`` is the work's own key and in the bibliography, and that every entry there has its place."""
    known, listed = set(references), {work.bib for work in works}
    complaints = []
    for work in works:
        if work.bib and work.bib not in known:
            complaints.append(f"{work.key}: bib is {work.bib}, which references.bib lacks")
        if work.bib not in ("", work.key):
            complaints.append(f"{work.key}: bib is {work.bib}; expected the work's own key")
        if work.key in known and not work.bib:
            complaints.append(f"{work.key}: references.bib has it; fill in bib")
        if work.bib in known:
            complaints += _as_in_the_bibliography(work, references[work.bib])
    complaints += [
        f"references.bib: {key} has no line in catalogue.csv; add one, or name it in catalogue-outside.csv"
        for key in sorted(known - listed - outside)
    ]
    stale = sorted(outside - (known - listed))
    return complaints + [f"catalogue-outside.csv: {key} is in the catalogue, or not in references.bib" for key in stale]


def _as_in_the_bibliography(work: Work, reference: Reference) -> list[str]:
    """What a work says otherwise than its entry; a year may be that of a later version, if a note says so."""
    complaints = []
    if folded(work.title) != folded(reference.title):
        complaints.append(f"{work.key}: references.bib has the title {reference.title!r}")
    first = re.split(r" and | et al\.", work.authors)[0]
    if folded(first) != folded(reference.families[0]):
        complaints.append(f"{work.key}: references.bib has the first author {reference.families[0]!r}")
    if work.authors_from != "book":
        complaints.append(f"{work.key}: authors_from is {work.authors_from!r}; expected book, as references.bib has it")
    if reference.arxiv and work.arxiv != reference.arxiv:
        complaints.append(f"{work.key}: references.bib has the arXiv number {reference.arxiv!r}")
    if work.year != reference.year and reference.year not in work.note:
        complaints.append(f"{work.key}: references.bib has the year {reference.year!r}; say why in the note")
    return complaints


def tied_to_the_chapters(works: list[Work], chapters: dict[str, Chapter], library: Iterable[Origin]) -> list[str]:
    """Demand that a chapter cites what it is said to run, in the library's docstrings and in ``by_hand``."""
    listed = {work.bib: work for work in works if work.bib}
    complaints = []
    for origin in library:
        claims = claims_of(origin, chapters)
        for key in sorted({key for key, _, _ in claims} & set(listed)):
            taught = [name for other, name, _ in claims if other == key]
            if not any(key in chapters[name].cites for name in taught):
                complaints.append(
                    f"{origin.where}.{origin.name}: taught in {' and '.join(taught)}, which does not cite {key}"
                )
    for work in works:
        for name, _ in by_hand(work):
            if name not in chapters:
                complaints.append(f"{work.key}: by_hand is {name}, which is no chapter")
            elif not work.bib or work.bib not in chapters[name].cites:
                complaints.append(f"{work.key}: by_hand is {name}, which does not cite it")
    return complaints
