"""The search and the general index know the names of the field, and lead to the chapter that teaches them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

from gilib_find.known import everything

Entry = tuple[str, str, str, str, str | None]


def use_scorer(app: Sphinx, config: Config) -> None:
    """Tell Sphinx what counts how much in a search."""
    config.html_search_scorer = str(Path(__file__).with_name("scorer.js"))


@cache
def names() -> dict[str, set[str]]:
    """By document of a chapter: the names of the methods that it teaches, and of their first authors."""
    found: dict[str, set[str]] = {}
    for one in everything():
        found.setdefault(f"chapters/{one.chapter}", set()).update(one.names, one.authors)
    return found


def entries_of(document: str) -> list[Entry]:
    """What the index has of a document because of the methods it teaches. They lead to no anchor, but to its top."""
    return [("single", name, "", "main", None) for name in sorted(names().get(document, set()))]


def enter_names(app: Sphinx, environment: BuildEnvironment) -> list[str]:
    """Enter the names into the general index; return the pages whose names are not those of the build before."""
    entries: dict[str, list[Entry]] = environment.get_domain("index").entries  # type: ignore[attr-defined]
    changed = []
    for document in environment.found_docs:
        others = [entry for entry in entries.get(document, []) if entry[2]]
        new = [*others, *entries_of(document)]
        if new != entries.get(document, []):
            changed.append(document)
            entries[document] = new
    return changed


def name_page(app: Sphinx, doctree: nodes.document, document: str) -> None:
    """Put the names into a page as well, for the search: they are not shown."""
    if entries_of(document):
        doctree.insert(0, addnodes.index(entries=entries_of(document)))
