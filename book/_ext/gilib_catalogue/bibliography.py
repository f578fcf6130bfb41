"""What ``book/references.bib`` knows of a work: its authors and year as docstrings write them, and its entry."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pybtex.database import Entry, parse_file
from pybtex.richtext import Text

from gilib_catalogue.works import BIBLIOGRAPHY


def plain(latex: str) -> str:
    """A field without braces and commands."""
    return str(Text.from_latex(latex))


@cache
def folded(text: str) -> str:
    """Letters and digits in lower case, accents off: what two spellings of a title have in common."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return re.sub(r"[^a-z0-9]", "", decomposed)


@dataclass(frozen=True)
class Reference:
    """An entry of the bibliography: family names of the authors, year, title, and the entry as it stands there."""

    key: str
    families: tuple[str, ...]
    year: str
    title: str
    entry: Entry

    @property
    def arxiv(self) -> str:
        """The arXiv number in its link; empty where it links elsewhere."""
        match = re.search(r"arxiv\.org/abs/([\d.]+)", self.entry.fields.get("url", ""))
        return match[1] if match else ""

    def is_called(self, names: list[str], others: bool) -> bool:
        """Tell whether ``names`` (with "et al." if ``others``) may stand for these authors."""
        ours, theirs = [folded(name) for name in self.families], [folded(name) for name in names]
        return ours[: len(theirs)] == theirs and (others if len(theirs) < len(ours) else not others)


@cache
def references(path: Path = BIBLIOGRAPHY) -> dict[str, Reference]:
    """The entries of a bibliography by key."""
    return {key: _reference(key, entry) for key, entry in parse_file(str(path)).entries.items()}


def _reference(key: str, entry: Entry) -> Reference:
    people = [plain(" ".join(person.prelast_names + person.last_names)) for person in entry.persons.get("author", [])]
    return Reference(key, tuple(people), entry.fields.get("year", ""), plain(entry.fields["title"]), entry)
