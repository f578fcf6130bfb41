"""The parts of the book and their chapters, as ``_toc.yml`` has them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from gilib_catalogue.works import ROOT

CONTENTS = ROOT / "_toc.yml"


@dataclass(frozen=True)
class Chapter:
    """A numbered page: its number, its document (``chapters/iteration/priors``) and its title."""

    number: int
    document: str
    title: str

    @property
    def name(self) -> str:
        """Its file name as words."""
        return self.document.split("/")[-1].replace("_", " ")


@dataclass(frozen=True)
class Part:
    """A numbered part and its chapters."""

    caption: str
    chapters: tuple[Chapter, ...]


def parts(contents: Path = CONTENTS) -> tuple[Part, ...]:
    """The numbered parts in their order; chapters are numbered through."""
    found, number = [], 0
    for part in yaml.safe_load(contents.read_text(encoding="utf-8"))["parts"]:
        if part.get("numbered"):
            documents = [page["file"] for page in part["chapters"]]
            chapters = [Chapter(number + place, name, title(name)) for place, name in enumerate(documents, start=1)]
            found.append(Part(part["caption"], tuple(chapters)))
            number += len(chapters)
    return tuple(found)


def chapters() -> dict[str, Chapter]:
    """The numbered pages by document."""
    return {chapter.document: chapter for part in parts() for chapter in part.chapters}


def title(document: str) -> str:
    """The first heading of a page. Raises ValueError where there is none."""
    for path in (ROOT / f"{document}.ipynb", ROOT / f"{document}.md"):
        if path.exists():
            text = path.read_text(encoding="utf-8")
            first = "".join(json.loads(text)["cells"][0]["source"]) if path.suffix == ".ipynb" else text
            match = re.search(r"^# (.+)$", first, re.MULTILINE)
            if match:
                return match[1]
    raise ValueError(f"{document}: expected a notebook or Markdown file with a heading '# ...'")
