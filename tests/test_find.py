"""The page "Find an attack or defense", the picture of the parts and the colophon say what library and contents say."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import typing
from types import SimpleNamespace

import pytest
import yaml
from docutils import nodes
from gilib_find import colophon, contents, known, links, parts, searching, table

import gilib
from gilib import defenses, recursion
from gilib.federated import Defense
from gilib.iteration import IterationAttack, StagedAttack, recipes

METHODS = known.everything()
CHAPTERS = contents.chapters()


def found(where):
    """What stands under a full name: a module, or something in one."""
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name != where:
            pytest.skip(f"needs {error.name}")
        module, _, name = where.rpartition(".")
        return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("one", METHODS, ids=lambda one: one.where)
def test_what_the_page_names_can_be_imported_and_says_so_itself(one):
    assert one.names[0] in " ".join(inspect.getdoc(found(one.where)).split())
    written = (known.ROOT / "chapters" / f"{one.chapter}.ipynb").exists()
    assert f"chapters/{one.chapter}" in CHAPTERS or not written, "a chapter that is written belongs in _toc.yml"


def public_functions(package):
    """The public functions that the modules of a package define."""
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        module = importlib.import_module(info.name)
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == info.name and not name.startswith("_"):
                yield function


def gives(function, kinds):
    """Tell whether a function says that it returns one of these kinds."""
    said = typing.get_type_hints(function).get("return")
    return inspect.isclass(said) and issubclass(said, kinds)


def test_every_recipe_and_every_defense_is_on_the_page():
    on_page = {found(one.where) for one in METHODS if not one.where.startswith("gilib.interop")}
    own = inspect.getmembers(recipes, inspect.isfunction)
    attacks = {function for _, function in own if function.__module__ == recipes.__name__}
    assert len(attacks) >= 8
    assert {function for function in attacks if gives(function, (IterationAttack, StagedAttack))} - on_page == set()
    protecting = {function for function in public_functions(defenses) if gives(function, Defense)}
    assert len(protecting) >= 13
    assert {function.__name__ for function in protecting - on_page} == set()
    assert {recursion.rgap, recursion.spear, recursion.phong, recursion.rank_analysis} <= on_page


@pytest.mark.parametrize(
    ("name", "chapter"),
    [
        ("DLG", "foundations/first_leak"),
        ("R-GAP", "recursion/rgap"),
        ("differential privacy", "defenses/privacy"),
        ("Soteria", "defenses/gradient"),
        ("audit", "practice/audit"),
    ],
)
def test_names_lead_to_the_chapter_that_teaches_them(name, chapter):
    assert [one.chapter for one in METHODS if name in one.names] == [chapter]


def test_no_name_is_said_of_two_methods():
    names = [name.casefold() for one in METHODS for name in one.names]
    assert sorted(names) == sorted(set(names))


def test_a_docstring_is_read_to_the_letter():
    text = (
        "Seek.\n\nKnown as: A-B, the b (attack). Needs x (``b()`` or\n    so), 0.5 of y. "
        "Source: Zhu et al. (2019), eq. 4. Taught in: a/b."
    )
    one = known.read(text, "m.f")
    assert (one.names, one.kind, one.needs, one.chapter) == (("A-B", "the b"), "attack", "x, 0.5 of y", "a/b")
    assert one.source == "Zhu et al. (2019)"
    assert one.authors == ("Zhu",)
    assert known.read("Nothing of the kind.", "m.f") is None
    assert known.read("Known as: B. Needs x. Taught in: a/b.", "m.f").kind == "attack"


@pytest.mark.parametrize(
    "text",
    [
        "Known as: A (sorcery). Needs x. Taught in: a/b.",
        "Known as: A (attack). Taught in: a/b.",
        "Known as: A (attack). Needs x. Needs y. Taught in: a/b.",
        "Known as: A (attack). Needs x.",
    ],
)
def test_a_docstring_that_says_too_little_is_refused(text):
    with pytest.raises(ValueError, match=r"m\.f"):
        known.read(text, "m.f")


def test_the_table_has_a_row_for_each_method_whose_chapter_is_there():
    ready = [one for one in METHODS if f"chapters/{one.chapter}" in CHAPTERS]
    assert len(ready) >= 62
    assert len(table.lines()) == len(ready) + 2


def test_names_and_first_authors_are_entered_for_the_search():
    names = searching.names()
    assert {"DLG", "iDLG", "Zhu"} <= names["chapters/foundations/first_leak"]
    assert "Fan" in names["chapters/defenses/model"]


def test_every_part_has_a_place_in_the_picture_and_every_chapter_is_linked_once():
    picture = parts.markup()
    assert [part.caption for part in contents.parts() if part.caption not in parts.PLACES] == []
    linked = re.findall(r'href="\.\./([^"]+)\.html"', picture)
    assert sorted(linked) == sorted(CHAPTERS)
    assert sorted(map(int, re.findall(r"<b>(\d+)</b>", picture))) == list(range(1, len(CHAPTERS) + 1))


def test_a_part_without_a_place_is_shown_all_the_same(tmp_path):
    pages = yaml.safe_load(contents.CONTENTS.read_text(encoding="utf-8"))
    pages["parts"].append({"caption": "Novelties", "numbered": True, "chapters": [{"file": "book/howto"}]})
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(pages), encoding="utf-8")
    last = contents.parts(tmp_path / "_toc.yml")[-1]
    assert last.chapters[0].number == len(CHAPTERS) + 1
    assert "Novelties" in parts.card(last)


def test_the_colophon_has_the_version_of_library_and_citation():
    cited = yaml.safe_load(colophon.CITATION.read_text(encoding="utf-8"))["version"]
    assert colophon.version() == gilib.__version__ == cited
    assert all(one in colophon.markup() for one in (*colophon.authors(), gilib.__version__))


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", True),
        ("It leaks. ", True),
        ("It leaks. (", True),
        ("Does it? ", True),
        ("as in ", False),
        ("noise (", False),
    ],
)
def test_a_link_knows_whether_it_begins_a_sentence(before, expected):
    link = nodes.inline("", "x")
    nodes.paragraph("", "", nodes.Text(before), link)
    assert links.begins_a_sentence(link) is expected


def test_a_page_is_called_by_its_number_or_by_its_title_up_to_a_colon():
    titles = {"a": nodes.title("", "Priors: what for?"), "b": nodes.title("", "Notation: symbols")}
    titles["c"] = nodes.title("", "R-GAP")
    environment = SimpleNamespace(toc_secnumbers={"a": {"": (7,)}}, titles=titles)
    assert links.short(environment, "a") == "chapter 7"
    assert links.short(environment, "b") == "notation"
    assert links.short(environment, "c") == "R-GAP"
