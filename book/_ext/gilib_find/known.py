"""What docstrings of the library say of a method: ``Known as: DLG (attack). Needs nothing.`` and ``Taught in:``.

Nothing about a method is written down a second time: the page, the search and the general index are made from here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gilib_catalogue.bibliography import Reference, references
from gilib_catalogue.runs import meant
from gilib_catalogue.sources import Mention, mentions_in
from gilib_catalogue.works import ROOT

LIBRARY = ROOT / "gilib"
KINDS = ("attack", "label attack", "ingredient", "defense", "analysis", "tool")
KNOWN = re.compile(r"Known as: (?P<names>[^.()]+?)(?: \((?P<kind>[^)]+)\))?\.")
NEEDS = re.compile(r"(?:^|(?<=[.:]) )Needs ((?:[^.]|\.(?! |$))+)\.(?= |$)")
CODE_ASIDE = re.compile(r" \((?:[^()]|\(\))*`(?:[^()]|\(\))*\)|`")  # code in brackets, and the marks of code


@dataclass(frozen=True)
class Known:
    """A method by the names it is known under; ``where`` is what to import, ``chapter`` like ``iteration/priors``."""

    names: tuple[str, ...]
    kind: str
    needs: str
    chapter: str
    where: str
    mentions: tuple[Mention, ...]

    @property
    def works(self) -> tuple[tuple[Mention, Reference], ...]:
        """The works of the bibliography that the method comes from."""
        found = [(one, meant(one, references().values())) for one in self.mentions]
        return tuple((one, references()[keys[0]]) for one, keys in found if keys)

    @property
    def authors(self) -> tuple[str, ...]:
        """Their first authors."""
        return tuple(dict.fromkeys(work.families[0] for _, work in self.works))

    @property
    def source(self) -> str:
        """The first of these works, as text cites it."""
        if not self.works:
            return ""
        mention, work = self.works[0]
        many = len(work.families) > 2 or "others" in work.families
        people = f"{work.families[0]} et al." if many else " and ".join(work.families)
        return f"{'idea: ' if mention.idea else ''}{people} ({work.year})"


def read(docstring: str, where: str) -> Known | None:
    """What a docstring says; None where it names no method. Raises ValueError where it says too little."""
    text = " ".join(docstring.split())
    match = KNOWN.search(text)
    if match is None:
        return None
    needs = [CODE_ASIDE.sub("", one) for one in NEEDS.findall(text)]
    taught = re.findall(r"Taught in: ([a-z_]+/[a-z_]+)", text)
    kind = match["kind"] or KINDS[0]
    if kind not in KINDS or len(needs) != 1 or not taught:
        raise ValueError(
            f"{where}: beside 'Known as: ... (kind).' expected a kind out of {', '.join(KINDS)}, one sentence that "
            f"begins with 'Needs', and 'Taught in: part/chapter'; got {kind}, {needs} and {taught}"
        )
    source, _, _ = text.partition("Source:")[2].partition("Taught in:")
    names = tuple(name.strip() for name in match["names"].split(","))
    return Known(names, kind, needs[0], taught[0], where, mentions_in(source))


def files() -> list[Path]:
    """The files of the library."""
    return sorted(path for path in LIBRARY.rglob("*.py") if "__pycache__" not in path.parts)


@cache
def everything() -> tuple[Known, ...]:
    """All methods that have a name, by kind and first name."""
    found = [one for path in files() for one in _in(path)]
    return tuple(sorted(found, key=lambda one: (KINDS.index(one.kind), one.names[0].casefold())))


def _in(path: Path) -> Iterator[Known]:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in (tree, *tree.body):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            name = getattr(node, "name", "")
            found = read(ast.get_docstring(node) or "", public(module, name) if name else module)
            if found:
                yield found


def public(module: str, name: str) -> str:
    """The shortest path under which ``name``, defined in ``module``, may be imported."""
    packages = module.split(".")
    for end in range(2, len(packages)):
        door = ROOT.joinpath(*packages[:end], "__init__.py")
        if name in _given(door):
            return ".".join([*packages[:end], name])
    return f"{module}.{name}"


@cache
def _given(door: Path) -> frozenset[str]:
    if not door.exists():
        return frozenset()
    imports = [node for node in ast.parse(door.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return frozenset(alias.asname or alias.name for node in imports for alias in node.names)
