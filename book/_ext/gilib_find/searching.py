"""The search and the general index know the names of the field, and lead to the chapter that teaches them."""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

from gilib_find.known import everything

Entry = tuple[str, str, str, str, str | None]


def use_scorer(app: Sphinx, config: Config) -> None:
    """Tell Sphinx what counts how much in a search."""
    config.html_search_scorer = str(Path(__file__).with_name("scorer.js"))


def names() -> dict[str, set[str]]:
    """By document of a chapter: the names of the methods that it teaches, and of their first authors."""
    found: dict[str, set[str]] = {}
    for one in everything():
        found.setdefault(f"chapters/{one.chapter}", set()).update(one.names, one.authors)
    return found


def enter_names(app: Sphinx, environment: BuildEnvironment) -> list[str]:
    """Enter the names into the index; return the pages whose names are not those of the build before."""
    entries: dict[str, list[Entry]] = environment.get_domain("index").entries  # type: ignore[attr-defined]
    ours = {document: sorted(found) for document, found in names().items() if document in environment.found_docs}
    changed = []
    for document in environment.found_docs:
        others = [entry for entry in entries.get(document, []) if entry[2]]  # ours lead to no anchor
        new = [("single", name, "", "main", None) for name in ours.get(document, [])]
        if [*others, *new] != entries.get(document, []):
            changed.append(document)
            entries[document] = [*others, *new]
    return changed
