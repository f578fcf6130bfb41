"""The catalogue of papers as readers use it: by mouse, by keyboard, on a phone, by a link, without scripts."""

from __future__ import annotations

import csv
import re
import unicodedata
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from built_site import DESKTOP, PHONE, SITE
from gilib_catalogue import collected
from pybtex.database import parse_string

PAGE = "book/catalogue.html"
ROWS = "table.gilib-works tbody tr"
WIRE = 700_000
NOWHERE = ("author", "x y z")  # "open: author" in a cell is no word of the work


@pytest.fixture(scope="module")
def works():
    return {work.key: work for work in collected.collect().works}


def shown(page):
    """The keys of the works that can be seen, in order."""
    rows = page.locator(ROWS).evaluate_all("rows => rows.filter(row => !row.hidden).map(row => row.id)")
    return [row.removeprefix("work-") for row in rows]


def expected(works, **cells):
    """The keys of the works with these cells."""
    return {key for key, work in works.items() if all(getattr(work, name) == value for name, value in cells.items())}


def field(page, name):
    """A field of the form, by its name in the address."""
    return page.locator(f".gilib-works-form [name={name}]")


def status(page):
    return page.locator(".gilib-works-form [role=status]").inner_text()


def test_the_page_is_light():
    own = ["book/catalogue.html", "_static/gilib-catalogue.js", "_static/gilib-catalogue.css"]
    assert sum((SITE / name).stat().st_size for name in own) < WIRE


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_facets_filter_together_and_the_address_keeps_them(open_page, works, viewport):
    page = open_page(PAGE, viewport=viewport)
    assert set(shown(page)) == set(works)
    field(page, "kind").select_option("defense")
    field(page, "family").select_option("secure")
    wanted = expected(works, kind="defense", family="secure")
    assert set(shown(page)) == wanted
    assert status(page) == f"{len(wanted)} of {len(works)} works"
    assert page.url.endswith("#kind=defense&family=secure")
    again = open_page(page.url.split("/", 3)[3], viewport=viewport)
    assert set(shown(again)) == wanted
    page.get_by_role("button", name="Show all").click()
    page.wait_for_timeout(100)
    assert set(shown(page)) == set(works)
    assert page.url.endswith(PAGE)
    assert not page.problems


def test_the_numbers_behind_the_options_say_what_is_left(open_page, works):
    page = open_page(PAGE + "#kind=attack&field=gradient")
    options = page.locator("select[name=family] option:not([disabled])").all_inner_texts()
    for option in options[1:]:
        name, number = option.rstrip(")").split(" (")
        assert int(number) == len(expected(works, kind="attack", field="gradient", family=name))
    assert page.locator("select[name=family] option[value=secure]").is_disabled()


def test_a_folded_filter_opens_when_a_link_sets_it(open_page, works):
    page = open_page(PAGE + "#threat=D&modality=image")
    assert field(page, "threat").is_visible()
    assert shown(page)
    assert all("D" in works[key].threat_model and "image" in works[key].modality for key in shown(page))


def words_of(work):
    """What a reader may look for: words of title, authors, note and venue, and the short name in the key."""
    text = f"{work.title} {work.shown_authors} {work.note} {work.venue} {re.split(r'[0-9]{4}', work.key)[1]}"
    plain = unicodedata.normalize("NFD", text.lower())
    return re.findall(r"[^\W_]+", "".join(letter for letter in plain if not unicodedata.combining(letter)))


@pytest.mark.parametrize(
    "typed", ["recursi", "INVER usenix", "version", "Balunović", "balunovic", "dlg", "author", "x y z"]
)
def test_typed_words_begin_words_of_a_work(open_page, works, typed):
    page = open_page(PAGE)
    field(page, "q").fill(typed)
    parts = unicodedata.normalize("NFD", typed.lower()).encode("ascii", "ignore").decode().split()
    wanted = {
        key
        for key, work in works.items()
        if all(any(word.startswith(part) for word in words_of(work)) for part in parts)
    }
    assert set(shown(page)) == wanted
    assert (typed in NOWHERE) == (wanted == set())
    assert status(page) == f"{len(wanted)} of {len(works)} works"
    assert parse_qs(urlsplit(page.url).fragment) == {"q": [typed]}


def test_everything_works_by_keyboard(open_page, works):
    page = open_page(PAGE)
    field(page, "q").focus()
    page.keyboard.type("federated")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "kind"
    page.keyboard.type("survey")
    assert {works[key].kind for key in shown(page)} == {"survey"}
    head = page.locator("table.gilib-works th", has_text="Year")
    head.focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    years = [works[key].year for key in shown(page)]
    assert years == sorted(years)
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert [works[key].year for key in shown(page)] == sorted(years, reverse=True)
    page.locator(".gilib-works-box").focus()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "region"
    assert not page.problems


@pytest.mark.parametrize("column", ["Access", "Threat model", "In this book", "Code"])
def test_what_is_missing_sorts_last_both_ways(open_page, column):
    page = open_page(PAGE)
    head = page.locator("table.gilib-works th", has_text=column).first
    place = head.evaluate("e => e.cellIndex") + 1
    for _ in range(2):
        head.click()
        page.wait_for_timeout(300)
        texts = page.locator(f"{ROWS} td:nth-child({place})").all_inner_texts()
        empty = [not text.strip() for text in texts]
        assert any(empty)
        assert empty == sorted(empty)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_first_column_and_the_heading_stay(open_page, viewport):
    page = open_page(PAGE, viewport=viewport)
    box = page.locator(".gilib-works-box")
    box.scroll_into_view_if_needed()
    before = page.locator(f"{ROWS} td:first-child").nth(40).bounding_box()["x"]
    box.evaluate("e => { e.scrollLeft = 300; e.scrollTop = 2000; }")
    page.wait_for_timeout(100)
    assert box.evaluate("e => e.scrollLeft") > 0
    assert page.locator(f"{ROWS} td:first-child").nth(40).bounding_box()["x"] == before
    assert before < viewport["width"] / 2
    head = page.locator("table.gilib-works th").first.bounding_box()
    assert abs(head["y"] - box.bounding_box()["y"]) < 3
    width = page.locator("table.gilib-works th").first.bounding_box()["width"]
    assert width < 0.6 * box.bounding_box()["width"]  # something of the other columns can be seen


def test_a_box_of_the_map_leads_to_its_works(open_page, works):
    page = open_page(PAGE)
    page.locator('.gilib-map a[href*="family=malicious"]').click()
    page.wait_for_timeout(200)
    wanted = expected(works, kind="attack", field="gradient", family="malicious")
    assert set(shown(page)) == wanted
    page.get_by_role("link", name="iDLG: Improved Deep Leakage from Gradients").last.click()
    page.wait_for_timeout(200)
    assert set(shown(page)) == set(works)
    assert page.locator("#work-zhao2020idlg").is_visible()


def test_without_scripts_a_box_of_the_map_leads_to_the_table(open_page):
    page = open_page(PAGE, scripts=False)
    page.locator(".gilib-map a").first.click()
    assert page.url.endswith("#all-works")
    assert page.locator("#all-works").is_visible()


def test_what_is_shown_can_be_downloaded(open_page, works):
    page = open_page(PAGE + "#kind=defense&family=secure&field=gradient")
    files = {}
    for name in ("CSV", "BibTeX"):
        with page.expect_download() as download:
            page.locator(".gilib-works-files").get_by_role("link", name=name).click()
        files[name] = Path(download.value.path()).read_text(encoding="utf-8")
    wanted = expected(works, kind="defense", family="secure", field="gradient")
    assert {row["key"] for row in csv.DictReader(files["CSV"].splitlines())} == wanted
    assert set(parse_string(files["BibTeX"], "bibtex").entries) == wanted
    assert not page.problems


def test_without_scripts_the_whole_table_and_both_files_are_there(open_page, works):
    page = open_page(PAGE, scripts=False)
    assert shown(page) == list(works)
    assert page.locator(ROWS).last.is_visible()
    assert not page.locator(".gilib-works-form").is_visible()
    for link in page.locator(".gilib-works-files a").all():
        text = (SITE / "book" / link.get_attribute("href")).read_text(encoding="utf-8")
        assert text.count("zhu2019dlg") >= 1
    assert page.locator("svg.gilib-years").get_attribute("aria-label").startswith("A grid of works by family and year")


def test_in_print_every_work_is_there_and_no_form(open_page, works):
    page = open_page(PAGE)
    page.emulate_media(media="print")
    assert not page.locator(".gilib-works-form").is_visible()
    box, table = page.locator(".gilib-works-box"), page.locator("table.gilib-works")
    assert box.bounding_box()["height"] >= table.bounding_box()["height"] > 3000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_picture_of_the_years_is_legible(open_page, scheme):
    page = open_page(PAGE, scheme=scheme, viewport=PHONE)
    text = page.locator("svg.gilib-years text").first
    colours = page.evaluate(
        "[getComputedStyle(document.querySelector('svg.gilib-years text')).fill,"
        " getComputedStyle(document.body).backgroundColor]"
    )
    ink, paper = (
        sum(int(part) for part in colour[colour.index("(") + 1 :].rstrip(")").split(",")[:3]) for colour in colours
    )
    assert abs(ink - paper) > 400
    assert text.evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 11
    assert page.locator("svg.gilib-years").evaluate(
        "e => [...e.querySelectorAll('text')].every(t => t.getBoundingClientRect().right <= innerWidth)"
    )
