"""Small books, built once for all tests: with everything in site.toml, with nothing, and two refused."""

from __future__ import annotations

import fcntl
import json
import os
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


KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "everything": (EVERYTHING, {"html.announcement": "A draft"}),
    "nothing": ("", {}),
    "documented key": ("", {"repository.url": "https://github.com/owner/name"}),
    "dead redirect": ('[redirects]\nold = "book/nowhere"', {}),
}


@pytest.fixture(scope="session")
def books(tmp_path_factory) -> dict[str, Built]:
    """Build the books in one process, once for all workers."""
    top = tmp_path_factory.getbasetemp()
    top = top.parent if "PYTEST_XDIST_WORKER" in os.environ else top
    with (top / "books.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be building them
        if not (top / "books.json").exists():
            (top / "books.json").write_text(json.dumps(built(top)), encoding="utf-8")
    found = json.loads((top / "books.json").read_text(encoding="utf-8"))
    return {name: Built(top / name, top / name / "_build" / "html", *found[name]) for name in KINDS}


def built(top: Path) -> dict[str, tuple[str, str]]:
    """Build them; what each build said, and the commit of the first. The others lie in no repository."""
    for name, (site, changes) in KINDS.items():
        small_book.write(top / name, site, changes)
    commit = small_book.committed(top / "everything")
    said = small_book.build([top / name for name in KINDS])
    return {name: (said[top / name], commit if name == "everything" else "") for name in KINDS}


@pytest.fixture(scope="session")
def full(books) -> Built:
    """The book with everything."""
    return books["everything"]


@pytest.fixture(scope="session")
def empty(books) -> Built:
    """The book with nothing."""
    return books["nothing"]
