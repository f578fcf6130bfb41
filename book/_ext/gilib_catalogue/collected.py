"""Everything about the catalogue at once: works, chapters, what the book does with each work, and what is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from gilib_catalogue import checks
from gilib_catalogue.bibliography import Reference, references
from gilib_catalogue.runs import Chapter, Here, chapters_of, here
from gilib_catalogue.sources import Origin, origins
from gilib_catalogue.tables import rows_complain
from gilib_catalogue.taxonomy import KINDS
from gilib_catalogue.works import Work, outside, read

OPEN = tuple(f"open {name}" for name in ("author", "arXiv number", "link"))


@dataclass(frozen=True)
class Catalogue:
    """The works of the catalogue and what they are tied to."""

    works: list[Work]
    chapters: dict[str, Chapter]
    library: list[Origin]
    references: dict[str, Reference]

    @cached_property
    def here(self) -> dict[str, Here]:
        """What the book does with each work."""
        return here(self.works, self.chapters, self.library)

    def complaints(self) -> list[str]:
        """What is wrong in the file or in its ties; empty if nothing is."""
        return [
            *checks.repeated(self.works),
            *checks.vocabulary(self.works),
            *checks.form(self.works),
            *checks.order(self.works),
            *checks.tied_to_the_bibliography(self.works, self.references, outside()),
            *checks.tied_to_the_chapters(self.works, self.chapters, self.library),
            *rows_complain(self.works, self.here, self.chapters, self.library),
        ]

    def numbers(self) -> dict[str, int]:
        """The numbers that the page names in its text; what there is none of is 0."""
        numbers = dict.fromkeys(("run", "idea", "cited", "no", *(f"{kind}s" for kind in KINDS), *OPEN), 0)
        numbers |= Counter(one.status or "no" for one in self.here.values())
        numbers |= Counter(f"{work.kind}s" for work in self.works)
        numbers |= Counter(f"open {name}" for work in self.works for name in work.open)
        return numbers | {"works": len(self.works)}


def collect() -> Catalogue:
    """The catalogue of the book, read from its files. Raises ValueError where a file has another form."""
    return Catalogue(read(), chapters_of(), list(origins()), references())
