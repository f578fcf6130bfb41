"""Small books, built once for all tests of a worker: with everything in site.toml, with nothing, and two refused."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import small_book

EVERYTHING = """
address = "https://example.org/books/gi"
repository = "https://github.com/owner/gradient-inversion"
branch = "main"
contact = "errors@example.org"
[launch]
binder = "https://mybinder.org"
colab = "https://colab.research.google.com"
jupyterhub = "https://hub.example.edu"
[redirects]
"chapters/old/name" = "book/words"
gone = "book/words#signs"
"""


class Built(NamedTuple):
    """The top folder of a book, its site, what building it said, and the commit of its sources."""

    folder: Path
    site: Path
    said: str
    commit: str

    def page(self, name: str) -> str:
        """The text of a page."""
        return (self.site / f"{name}.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def books(tmp_path_factory) -> dict[str, Built]:
    """Build the books in one process; the first is a repository, the others lie in no repository."""
    kinds: dict[str, tuple[str, dict[str, object]]] = {
        "everything": (EVERYTHING, {"html.announcement": "A draft"}),
        "nothing": ("", {}),
        "documented key": ("", {"repository.url": "https://github.com/owner/name"}),
        "dead redirect": ('[redirects]\nold = "book/nowhere"', {}),
    }
    folders = {}
    for name, (site, changes) in kinds.items():
        folders[name] = tmp_path_factory.mktemp(name.replace(" ", "-"))
        small_book.write(folders[name], site, changes)
    commit = small_book.committed(folders["everything"])
    said = small_book.build(list(folders.values()))
    return {
        name: Built(folder, folder / "_build" / "html", said[folder], commit if name == "everything" else "")
        for name, folder in folders.items()
    }


@pytest.fixture(scope="session")
def full(books) -> Built:
    """The book with everything."""
    return books["everything"]


@pytest.fixture(scope="session")
def empty(books) -> Built:
    """The book with nothing."""
    return books["nothing"]
