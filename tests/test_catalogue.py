"""The catalogue of papers: its file keeps its rules, and whatever breaks one is a complaint."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from gilib_catalogue import __main__, checks, collected, taxonomy, works


@pytest.fixture(scope="module")
def book():
    return collected.collect()


def changed(book, which, /, **cells):
    """The catalogue with other cells in one of its lines."""
    lines = [dataclasses.replace(work, **cells) if work.key == which else work for work in book.works]
    return dataclasses.replace(book, works=lines)


def test_the_catalogue_has_nothing_to_complain_about(book):
    assert book.complaints() == []
    assert len(book.works) > 370


def test_make_catalogue_says_how_many_works_are_run(capsys):
    assert __main__.main() == 0
    assert re.search(r"\d+ works: \d+ run, \d+ as an idea, \d+ only cited", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ({"key": "geiping2020inverting"}, "another work has the same key"),
        ({"key": "Zhu 2019"}, "small letters"),
        ({"title": "Inverting gradients: how easy is it to break privacy in federated learning"}, "same title"),
        ({"title": " Deep Leakage from Gradients"}, "space around"),
        ({"title": ""}, "title is empty"),
        ({"year": "1919"}, "the year is '1919'"),
        ({"arxiv": "1406.08935"}, "does not go with the arXiv number"),
        ({"arxiv_from": ""}, "needs arxiv_from"),
        ({"doi": "https://doi.org/10.1/x"}, "is no DOI"),
        ({"url": "proceedings.neurips.cc/paper/2019"}, "url is no address"),
        ({"code": "https://github.com/mit han lab"}, "code is no address"),
        ({"url": "https://arxiv.org/abs/2003.14053"}, "the link leads to arXiv 2003.14053"),
        ({"kind": "assault"}, "kind is 'assault'"),
        ({"field": "gradients"}, "field is 'gradients'"),
        ({"family": "iterative"}, "family is 'iterative'"),
        ({"modality": "image;sound"}, "modality is 'sound'"),
        ({"setting": "FedProx"}, "setting is 'FedProx'"),
        ({"access": "grey"}, "access is 'grey'"),
        ({"threat_model": "Z"}, "threat_model is 'Z'"),
        ({"authors": "Zhu and L"}, "expected family names"),
        ({"authors": "Ligeng Zhu, Song Han"}, "expected family names"),
        ({"authors_from": "hearsay"}, "authors_from is 'hearsay'"),
        ({"sources": "Nobody2020"}, "Nobody2020 is used by works and not listed"),
        ({"bib": "zhu2019deep"}, "references.bib lacks"),
        ({"bib": ""}, "fill in bib"),
        ({"year": "2020"}, "not in its place"),
        ({"by_hand": "defenses/hope"}, "which is no chapter"),
        ({"by_hand": "recursion/exact_batches"}, "which does not cite it"),
    ],
)
def test_a_wrong_cell_is_a_complaint(book, cells, complaint):
    found = changed(book, "zhu2019dlg", **cells).complaints()
    assert any(complaint in one for one in found), found


def test_a_line_of_the_bibliography_without_a_work_is_a_complaint(book):
    fewer = dataclasses.replace(book, works=[work for work in book.works if work.key != "zhu2021rgap"])
    assert any("references.bib: zhu2021rgap has no line" in one for one in fewer.complaints())
    assert checks.tied_to_the_bibliography(book.works, book.references, works.outside() | {"zhu2021rgap"})


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ({"title": "Deep Leakage from Gradient"}, "references.bib has the title 'Deep Leakage from Gradients'"),
        ({"authors": "Zhao et al."}, "references.bib has the first author 'Zhu'"),
        ({"authors_from": "memory"}, "authors_from is 'memory'; expected book"),
        ({"arxiv": "1906.08936", "url": ""}, "references.bib has the arXiv number '1906.08935'"),
        ({"year": "2018"}, "references.bib has the year '2019'"),
    ],
)
def test_a_work_that_differs_from_its_entry_in_the_bibliography_is_a_complaint(book, cells, complaint):
    found = changed(book, "zhu2019dlg", **cells).complaints()
    assert any(complaint in one for one in found), found


def test_a_work_in_the_wrong_place_is_told_its_place(book):
    first, second, *others = book.works
    found = checks.order([second, first, *others])
    assert found == [f"{second.key}: not in its place, newest first, then by title; put it after {first.key}"]


def test_another_form_of_the_file_is_said_with_its_line(tmp_path):
    path = tmp_path / "catalogue.csv"
    path.write_text(",".join(works.COLUMNS) + "\na,b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2: expected 25 cells, got 2"):
        works.read(path)
    path.write_text("key,title\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected the columns key, title, authors"):
        works.read(path)


# --- how a work comes in ---------------------------------------------------------------------------------------------


def test_the_issue_template_has_the_words_of_the_catalogue():
    form = yaml.safe_load((works.ROOT / ".github/ISSUE_TEMPLATE/work.yml").read_text(encoding="utf-8"))
    fields = {part["id"]: part for part in form["body"] if "id" in part}
    assert fields["kind"]["attributes"]["options"] == list(taxonomy.KINDS)
    assert fields["field"]["attributes"]["options"] == list(taxonomy.FIELDS)
    assert [name for name, part in fields.items() if part.get("validations", {}).get("required")] == [
        "what",
        "title",
        "link",
    ]


def test_a_work_added_as_contributing_says_is_accepted(book, tmp_path):
    text = (works.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", text.partition("### Add a work")[2].partition("### What it says")[0]))
    assert set(checks.NEEDED) <= named
    line = [
        "doe2026example",
        "An Example of a Title",
        "Doe et al.",
        "checked",
        "2026",
        "arXiv",
        "2601.01234",
        "checked",
    ]
    line += ["", "https://arxiv.org/abs/2601.01234", "attack", "gradient", "iteration", "image", "FedSGD"]
    line += [""] * (len(works.COLUMNS) - len(line) - 2) + ["reading", ""]
    added = works.Work(*line)
    lines = sorted([*book.works, added], key=lambda work: (-int(work.year), work.title.casefold()))
    assert dataclasses.replace(book, works=lines).complaints() == []
    assert added.open == []
