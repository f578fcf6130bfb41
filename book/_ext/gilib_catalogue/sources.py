"""Which works the library's docstrings name after "Source:", and the chapters they name after "Taught in:"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gilib_catalogue.works import ROOT

NAME = r"[^\W\d_a-z][\w'’-]+"
MENTION = re.compile(rf"({NAME}(?:, {NAME})*(?:,? (?:and|&) {NAME})?)( et al\.)? \((\d{{4}})\)")
IDEA_BEFORE = re.compile(r"\b(idea|after|reading)\b")  # "the idea of", "after", "our reading of"
IDEA_BEHIND = re.compile(r"\bidea\b")  # "for the idea", "of which only the idea is kept"


@dataclass(frozen=True)
class Mention:
    """A work as a docstring calls it: names, others, year; whether only its idea is used; the clause around it."""

    names: tuple[str, ...]
    others: bool
    year: str
    idea: bool
    clause: str


@dataclass(frozen=True)
class Origin:
    """A public function or class, the works it comes from, and the chapters that teach it."""

    where: str
    name: str
    mentions: tuple[Mention, ...]
    taught_in: tuple[str, ...]


def mentions_in(text: str) -> tuple[Mention, ...]:
    """The works named in the part of a docstring after "Source:"."""
    found = list(MENTION.finditer(text))
    mentions = []
    for number, match in enumerate(found):
        start = found[number - 1].end() if number else 0
        end = found[number + 1].start() if number + 1 < len(found) else len(text)
        before = re.split(r"[;.]", text[start : match.start()])[-1]
        behind = re.split(r"[;.](?!\d)", text[match.end() : end])[0]
        idea = bool(IDEA_BEFORE.search(before) or IDEA_BEHIND.search(behind))
        names = re.split(r",? (?:and|&) |, ", match[1])
        mentions.append(Mention(tuple(names), bool(match[2]), match[3], idea, f"{before} {match[1]} {behind}"))
    return tuple(mentions)


def origin_of(where: str, name: str, docstring: str) -> Origin | None:
    """What a docstring says of its sources; None where it names no work."""
    text = " ".join(docstring.split())
    _, separator, tail = text.partition("Source:")
    source, _, taught = tail.partition("Taught in:")
    mentions = mentions_in(source) if separator else ()
    return Origin(where, name, mentions, tuple(re.findall(r"[a-z_]+/[a-z_]+", taught))) if mentions else None


def origins(folder: Path = ROOT / "gilib") -> Iterator[Origin]:
    """The functions and classes of a package whose docstrings name works, file by file."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                where = ".".join((folder.name, *path.relative_to(folder).with_suffix("").parts))
                origin = origin_of(where, node.name, ast.get_docstring(node) or "")
                if origin:
                    yield origin
