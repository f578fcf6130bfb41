"""The catalogue of papers: what it says of the chapters is so, in both directions; its page and its files."""

from __future__ import annotations

import csv
import dataclasses
import io
import re

import pytest
from gilib_catalogue import collected, downloads, pictures, runs, sources, table, tables, taxonomy, works
from pybtex.database import parse_string


@pytest.fixture(scope="module")
def book():
    return collected.collect()


def test_a_chapter_that_cites_a_work_marks_it(book):
    for work in book.works:
        ours = book.here[work.key]
        citing = {name for name, chapter in book.chapters.items() if work.bib in chapter.cites}
        assert {*ours.run, *ours.idea, *ours.cited} == citing, work.key


def test_a_work_marked_as_run_is_cited_and_something_of_it_is_executed_there(book):
    claims = {(key, name): [] for origin in book.library for key, name, _ in runs.claims_of(origin, book.chapters)}
    for origin in book.library:
        for key, name, _ in runs.claims_of(origin, book.chapters):
            claims[key, name].append(origin.name)
    for work in book.works:
        by_hand = {name for name, _ in runs.by_hand(work)}
        for name in (*book.here[work.key].run, *book.here[work.key].idea):
            assert work.bib in book.chapters[name].cites
            used = [one for one in claims.get((work.bib, name), []) if book.chapters[name].uses(one)]
            assert used or name in by_hand, f"{name} runs nothing of {work.key}"


def test_the_chapters_run_what_we_know_they_run(book):
    assert "foundations/first_leak" in book.here["zhao2020idlg"].run
    assert "defenses/gradient" in book.here["sun2021soteria"].run
    assert "iteration/matching" in book.here["wang2023wasserstein"].idea
    assert "defenses/secure_aggregation" in book.here["pasquini2022eluding"].run  # in its own cells
    assert book.here["zhang2022survey"].status == "cited"  # a survey has no method to run


def test_a_chapter_that_stops_citing_or_using_a_work_stops_running_it(book):
    name = "defenses/gradient"
    silent = dataclasses.replace(book.chapters[name], prose=book.chapters[name].prose.replace("sun2021soteria", "x"))
    without = dataclasses.replace(book, chapters=book.chapters | {name: silent})
    assert without.here["sun2021soteria"].status == ""
    assert any(
        "soteria: taught in defenses/gradient, which does not cite sun2021soteria" in one
        for one in without.complaints()
    )
    idle = dataclasses.replace(
        book.chapters[name], code=re.sub("soteria|feature_scores", "x", book.chapters[name].code)
    )
    unused = dataclasses.replace(book, chapters=book.chapters | {name: idle})
    assert unused.here["sun2021soteria"].status == "cited"


def test_a_citation_of_an_unknown_key_would_be_noticed(book):
    known = {work.bib for work in book.works} | works.outside()
    for chapter in book.chapters.values():
        assert chapter.cites <= known, chapter.name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Zhu et al. (2019), eq. 4.", [("zhu2019dlg", False)]),
        ("DLG, Zhu et al. (2019).", [("zhu2019dlg", False)]),
        ("Zhu, Liu & Han (2019), sec. 4.1 and the authors' code.", [("zhu2019dlg", False)]),
        ("Zhu & Blaschko (2021).", [("zhu2021rgap", False)]),
        (
            "the idea of Zhu & Blaschko (2021), who count; for the rest, Geiping et al. (2020).",
            [("zhu2021rgap", True), ("geiping2020inverting", False)],
        ),
        (
            "CI-Net, Zhang et al. (2023), after Ulyanov et al. (2018).",
            [("zhang2023generative", False), ("ulyanov2018deep", True)],
        ),
        (
            "Stich et al. (2018), algorithm 1; the idea of Seide et al. (2014).",
            [("stich2018sparsified", False), ("seide2014onebit", True)],
        ),
        ("Kadhe et al. (2020) for the idea. Ours is packed.", [("kadhe2020fastsecagg", True)]),
        ("PRECODE, Scheliga et al. (2022).", [("scheliga2022precode", False)]),
        ("the idea of Scheliga et al. (2023) for dropout masks.", [("scheliga2023dropout", True)]),
        ("He et al. (2016), sec. 4.2.", []),
        ("Cooley and Tukey's recursion.", []),
    ],
)
def test_docstrings_are_read(book, text, expected):
    known = book.references.values()
    found = [(key, one.idea) for one in sources.mentions_in(text) for key in runs.meant(one, known)]
    assert found == expected


def test_a_docstring_that_could_mean_two_works_is_refused(book):
    origin = sources.origin_of("gilib.x", "f", "F.\n\nSource: Scheliga et al. (2022). Taught in: defenses/model.")
    with pytest.raises(ValueError, match=r"gilib\.x\.f: Scheliga \(2022\) may be scheliga2022\w+ or scheliga2022\w+"):
        runs.claims_of(origin, book.chapters)


# --- the page --------------------------------------------------------------------------------------------------------


def test_every_work_is_one_row_and_what_nobody_checked_is_not_printed(book):
    page = table.table(book.works, book.here)
    assert re.findall(r'<tr id="work-(\w+)"', page) == [work.key for work in book.works]
    assert len(page.encode()) < 400_000
    files = downloads.files(book.works, book.here, book.references)
    rows = {row["key"]: row for row in csv.DictReader(io.StringIO(files["catalogue.csv"]))}
    entries = downloads.bibtex_entries(book.works, book.references)
    for work in book.works:
        row = table.row(work, book.here[work.key])
        if "author" in work.open:
            assert "<span>" not in row
            assert rows[work.key]["first_authors"] == ""
            assert "author" not in entries[work.key]
            assert "open: author" in row
        if "arXiv number" in work.open:
            assert work.arxiv not in row + rows[work.key]["arxiv"] + rows[work.key]["url"] + entries[work.key]


def test_a_recalled_author_is_blank_and_a_checked_one_printed(book):
    work = next(work for work in book.works if work.key == "zhao2020idlg")
    assert "<span>Zhao et al.</span>" in table.row(work, book.here[work.key])
    recalled = dataclasses.replace(
        work, authors_from="memory", arxiv_from="memory", url=f"https://arxiv.org/abs/{work.arxiv}"
    )
    row = table.row(recalled, book.here[work.key])
    assert "Zhao" not in row
    assert work.arxiv not in row
    assert "open: author, arXiv number" in row


def test_the_files_are_what_programs_read(book):
    files = downloads.files(book.works, book.here, book.references)
    entries = parse_string(files["catalogue.bib"], "bibtex").entries
    assert list(entries) == [work.key for work in book.works]
    assert len(entries["zhu2019dlg"].persons["author"]) == 3
    rows = list(csv.DictReader(io.StringIO(files["catalogue.csv"])))
    assert [row["key"] for row in rows] == [work.key for work in book.works]
    assert next(row for row in rows if row["key"] == "zhao2020idlg")["run_in"].split(";")[0] == "foundations/first_leak"


def test_the_pictures_count_every_work_once(book):
    drawn = pictures.year_rows(book.works)
    assert sum(row.total() for row in drawn.values()) == len(book.works)
    boxes = [pictures.cells(book.works, book.here, group) for group in taxonomy.GROUPS]
    assert sum(counts.total() for found in boxes for counts in found.values()) == len(book.works)
    run = sum(counts["run"] for found in boxes for counts in found.values())
    assert run == sum(one.status == "run" for one in book.here.values())
    text = pictures.years(book.works)
    assert f"2023: {sum(work.year == '2023' for work in book.works)}" in text
    assert 'role="img"' in text


def test_the_tables_of_other_lists_are_whole(book):
    counts = [sum(row.table == name for row in tables.rows()) for name in (*tables.GRADATTACK, "surveys")]
    assert counts == [7, 4, 4, 6]
    page = tables.gradattack(book.works, book.here, book.chapters)
    assert page.count("not run") == sum(not row.names for row in tables.rows() if row.table in tables.GRADATTACK)


def test_a_row_of_those_tables_names_the_chapters_that_run_its_method_and_no_other_of_the_paper(book):
    rows = {row.name: row for row in tables.rows()}
    dlg, pruning = (rows[name].runs(book.here, book.chapters) for name in ("DLG", "Gradient pruning"))
    assert rows["DLG"].key == rows["Gradient pruning"].key
    assert dlg["foundations/first_leak"] == ("dlg",)
    assert pruning["defenses/gradient"] == ("pruning",)
    assert "defenses/gradient" not in dlg
    for name, row in rows.items():
        for chapter in row.runs(book.here, book.chapters):
            assert (row.run_as or row.key) in book.chapters[chapter].cites, name


def test_a_row_of_those_tables_that_nothing_runs_any_more_is_a_complaint(book, monkeypatch):
    nothing = dict.fromkeys(book.here, runs.Here())
    found = tables.rows_complain(book.works, nothing, book.chapters, book.library)
    assert any("no chapter runs DLG by dlg" in one for one in found)
    without = [origin for origin in book.library if origin.name != "rgap"]
    found = tables.rows_complain(book.works, book.here, book.chapters, without)
    assert any("R-GAP is run by rgap, whose docstring has another source" in one for one in found)
    nameless = [dataclasses.replace(row, names="" if row.name == "CAFE" else row.names) for row in tables.rows()]
    monkeypatch.setattr(tables, "rows", lambda: nameless)
    found = tables.rows_complain(book.works, book.here, book.chapters, book.library)
    assert any("CAFE is run by frontiers/vertical; fill in names" in one for one in found)
