"""What the book does with a work: a chapter runs it, runs its idea in another form, or cites it.

A chapter runs a work if the library says so and the chapter agrees: a function or class whose docstring names the work
after "Source:" and the chapter after "Taught in:", used by name in the code of that chapter, which also cites the work.
What a chapter builds in its own cells, without the library, the catalogue says in its column ``by_hand``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gilib_catalogue.bibliography import Reference, references
from gilib_catalogue.sources import Mention, Origin, origins
from gilib_catalogue.taxonomy import METHODS
from gilib_catalogue.works import ROOT, Work

CITATION = re.compile(r"\{cite[:\w]*\}`([^`]+)`")


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book: its name (``iteration/priors``), its prose and its code."""

    name: str
    prose: str
    code: str

    @property
    def title(self) -> str:
        """The first heading."""
        return next(line for line in self.prose.splitlines() if line.startswith("# ")).removeprefix("# ")

    @cached_property
    def cites(self) -> frozenset[str]:
        """The keys that its prose cites."""
        return frozenset(key.strip() for keys in CITATION.findall(self.prose) for key in keys.split(","))

    def uses(self, name: str) -> bool:
        """Tell whether the code contains ``name`` as a word."""
        return re.search(rf"\b{re.escape(name)}\b", self.code) is not None


@dataclass(frozen=True)
class Here:
    """Names of the chapters that run a work, run its idea, or only cite it; each chapter is in one of the three."""

    run: tuple[str, ...] = ()
    idea: tuple[str, ...] = ()
    cited: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """The most that any chapter does: run, idea, cited, or the empty string."""
        return next((name for name in ("run", "idea", "cited") if getattr(self, name)), "")


def chapters_of(contents: Path = ROOT / "_toc.yml") -> dict[str, Chapter]:
    """The chapters in the order of the table of contents."""
    names = re.findall(r"file: chapters/(\S+)", contents.read_text(encoding="utf-8"))
    return {name: _chapter(name, contents.parent / "chapters" / f"{name}.ipynb") for name in names}


def _chapter(name: str, path: Path) -> Chapter:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = {kind: [] for kind in ("markdown", "code", "raw")}
    for cell in cells:
        texts[cell["cell_type"]].append("".join(cell["source"]))
    return Chapter(name, "\n\n".join(texts["markdown"]), "\n".join(texts["code"]))


def meant(mention: Mention, known: Iterable[Reference], cited: frozenset[str] = frozenset()) -> list[str]:
    """The keys that ``mention`` may stand for: one if it is clear, none if the bibliography lacks the work.

    What the chapters cite decides between works of the same authors and year, then the words that the clause shares
    with their titles ("PRECODE, Scheliga et al. (2022)").
    """
    for skipped in range(len(mention.names)):
        names = list(mention.names[skipped:])
        found = [one for one in known if one.year == mention.year and one.is_called(names, mention.others)]
        if found:
            return _narrowed(found, mention.clause, cited)
    return []


def _narrowed(found: list[Reference], clause: str, cited: frozenset[str]) -> list[str]:
    found = [one for one in found if one.key in cited] or found
    shared = {one.key: len(_words(clause) & _words(one.title)) for one in found}
    return [key for key, count in shared.items() if count == max(shared.values())]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w{5,}", text.casefold()))


def claims_of(origin: Origin, chapters: dict[str, Chapter]) -> list[tuple[str, str, bool]]:
    """What a docstring claims: key, chapter, whether only the idea. Raises ValueError where two works may be meant."""
    taught = [chapters[name] for name in origin.taught_in if name in chapters]
    cited = frozenset().union(*(chapter.cites for chapter in taught))
    claims = []
    for mention in origin.mentions:
        keys = meant(mention, references().values(), cited)
        if len(keys) > 1:
            called = f"{', '.join(mention.names)} ({mention.year})"
            raise ValueError(
                f"{origin.where}.{origin.name}: {called} may be {' or '.join(keys)}; add a word of the title"
            )
        claims += [(key, chapter.name, mention.idea) for key in keys for chapter in taught]
    return claims


def by_hand(work: Work) -> list[tuple[str, bool]]:
    """The chapters that build a work in their own cells, and whether only its idea."""
    return [(cell.removeprefix("idea:"), cell.startswith("idea:")) for cell in work.values("by_hand")]


def here(works: list[Work], chapters: dict[str, Chapter], library: Iterable[Origin] | None = None) -> dict[str, Here]:
    """What the book does with each work, by key."""
    run: dict[str, set[str]] = {work.key: set() for work in works}
    idea: dict[str, set[str]] = {work.key: set() for work in works}
    for origin in origins() if library is None else library:
        for key, name, only_idea in claims_of(origin, chapters):
            if key in run and key in chapters[name].cites and chapters[name].uses(origin.name):
                (idea if only_idea else run)[key].add(name)
    for work in works:
        for name, only_idea in by_hand(work):
            (idea if only_idea else run)[work.key].add(name)
    return {work.key: _here(work, run[work.key], idea[work.key], chapters) for work in works}


def _here(work: Work, run: set[str], idea: set[str], chapters: dict[str, Chapter]) -> Here:
    if work.kind not in METHODS:
        run, idea = set(), set()
    return Here(
        tuple(name for name in chapters if name in run),
        tuple(name for name in chapters if name in idea - run),
        tuple(name for name, one in chapters.items() if work.bib in one.cites and name not in run | idea),
    )
