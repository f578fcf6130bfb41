"""The book as an entry of a bibliography, from CITATION.cff."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from gilib_publish.settings import FILE, read

SOURCE = "CITATION.cff"
KEY = "gradientinversion"


def cited(root: Path) -> dict[str, Any]:
    """What CITATION.cff says: the book's own fields, and below them those of the whole."""
    found = yaml.safe_load((root / SOURCE).read_text(encoding="utf-8"))
    return found | found.get("preferred-citation", {})


def person(author: dict[str, str]) -> str:
    """An author as BibTeX wants one; a group in braces, so that its last word does not become a family name."""
    if "name" in author:
        return f"{{{author['name']}}}"
    return ", ".join(author[part] for part in ("family-names", "given-names") if part in author)


def bibtex(root: Path) -> str:
    """The entry. Its address is the site's, where site.toml has one."""
    found = cited(root)
    fields = {
        "title": f"{{{found['title']}}}",
        "author": " and ".join(person(author) for author in found["authors"]),
        "year": str(found["year"]),
        "note": f"Version {found['version']}",
        "doi": found.get("doi", ""),
        "url": read(root).address,
    }
    lines = "".join(f"  {name:<6} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@book{{{KEY}{found['year']},\n{lines}}}"


class BookAsBibtex(SphinxDirective):
    """Show the entry."""

    def run(self) -> list[nodes.Node]:
        """Return a listing that can be copied."""
        root = Path(self.env.srcdir)
        for name in (SOURCE, FILE):
            self.env.note_dependency(str(root / name))
        entry = bibtex(root)
        return [nodes.literal_block(entry, entry, language="bibtex")]
