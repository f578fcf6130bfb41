"""The search knows the names of the field: the chapter that teaches a method comes first."""

from __future__ import annotations

import re
from urllib.parse import quote_plus

import pytest
from built_site import PAGES, PHONE, SITE
from gilib_find import contents, known

EXPECTED = {
    "DLG": "foundations/first_leak",
    "iDLG": "foundations/first_leak",
    "deep leakage": "foundations/first_leak",
    "Inverting Gradients": "iteration/matching",
    "gradient matching": "iteration/matching",
    "R-GAP": "recursion/rgap",
    "rgap": "recursion/rgap",
    "GradInversion": "iteration/priors",
    "total variation": "iteration/priors",
    "GIAS": "iteration/generative",
    "GGL": "iteration/generative",
    "SPEAR": "recursion/exact_batches",
    "LLG": "iteration/labels",
    "label restoration": "iteration/labels",
    "differential privacy": "defenses/privacy",
    "DP-SGD": "defenses/privacy",
    "secure aggregation": "defenses/secure_aggregation",
    "Soteria": "defenses/gradient",
    "the soteria defense": "defenses/gradient",
    "gradient pruning": "defenses/gradient",
    "PRECODE": "defenses/model",
    "Fan": "defenses/model",
    "InstaHide": "defenses/obscuration",
    "MixUp": "defenses/obscuration",
    "homomorphic encryption": "defenses/encryption",
    "Paillier": "defenses/encryption",
    "CKKS": "defenses/encryption",
    "Flower": "practice/flower",
    "audit": "practice/audit",
    "rank analysis": "recursion/rank",
    "Phong": "recursion/dense",
}
READY = [one for one in known.everything() if f"chapters/{one.chapter}" in contents.chapters()]
TAUGHT = {name: one.chapter for one in READY for name in one.names}
HITS = "#search-results li a"


@pytest.fixture(scope="module")
def results(browser, base):
    """Return a function that searches and gives the addresses found, best first, and the page."""
    context = browser.new_context(viewport=PHONE)
    page = context.new_page()

    def search(words):
        page.goto(f"{base}search.html?q={quote_plus(words)}")
        page.wait_for_function("document.querySelector('#search-results .search-summary')?.textContent")
        found = page.eval_on_selector_all(HITS, "links => links.map(link => link.getAttribute('href').split('#')[0])")
        return found, page

    yield search
    context.close()


@pytest.mark.parametrize("words", sorted(EXPECTED))
def test_the_chapter_that_teaches_it_comes_first(results, words):
    found, _ = results(words)
    assert found[0] == f"chapters/{EXPECTED[words]}.html", found[:5]


def test_so_it_is_for_every_name_of_the_library(results):
    _, page = results("gradient")
    first = page.evaluate(
        "names => names.map(name => Search._performSearch(...Search._parseQuery(name)).pop()[0])", [*TAUGHT]
    )
    assert dict(zip(TAUGHT, first, strict=True)) == {name: f"chapters/{chapter}" for name, chapter in TAUGHT.items()}


def test_pages_come_before_functions(results):
    found, _ = results("soteria")
    functions = [place for place, page in enumerate(found) if page.startswith("book/api")]
    assert functions
    assert min(functions) > 0
    found, _ = results("noise")
    assert found[0].startswith("chapters/")


@pytest.mark.parametrize("words", ["gradient", "epsilon", "rank analysis"])
def test_excerpts_show_no_source_of_formulas(results, words):
    _, page = results(words)
    page.wait_for_function("document.querySelectorAll('#search-results p.context').length > 5")
    page.wait_for_load_state("networkidle")
    text = page.locator("#search-results").inner_text()
    assert "\\(" not in text
    assert "\\[" not in text
    assert "\\partial" not in text


@pytest.mark.parametrize("width", [390, 320])
def test_results_fit_a_phone(browser, base, width):
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(f"{base}search.html?q=secure+aggregation")
    page.wait_for_function("document.querySelectorAll('#search-results p.context').length > 3")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_the_page_of_names_is_filtered_and_has_a_row_for_each_method(open_page):
    page = open_page("book/find.html")
    rows = page.locator("table.gilib-find tbody tr")
    assert rows.count() == len(READY)
    page.get_by_label("Filter").fill("dlg")
    shown = page.locator("table.gilib-find tbody tr:visible")
    assert 1 <= shown.count() <= 3
    assert "DLG" in shown.first.inner_text()
    assert shown.first.locator("a").count() >= 2
    page.get_by_label("Filter").fill("attack")
    for _ in range(2):  # the first press sorts from below, or the second
        page.get_by_role("columnheader", name="Chapter").click()
    numbers = [int(text.split()[0]) for text in shown.locator("td:nth-child(5)").all_inner_texts()]
    assert numbers in (sorted(numbers), sorted(numbers, reverse=True))
    assert max(numbers) >= 10
    assert not page.problems


def test_no_link_puts_a_whole_title_into_a_sentence():
    named = re.compile(r'<span class="doc">(.*?)</span></a>', re.DOTALL)
    for page in PAGES:
        texts = named.findall((SITE / page).read_text(encoding="utf-8"))
        assert not [text for text in texts if len(text) > 45 or "?" in text], page


TEXTS = "links => Object.fromEntries(links.map(link => [new URL(link.href).pathname, link.textContent.trim()]))"


def test_the_picture_of_the_parts_leads_to_every_chapter_by_the_number_it_has(open_page):
    page = open_page("book/index.html", viewport=PHONE)
    drawn = page.eval_on_selector_all(".gilib-parts a", TEXTS)
    listed = page.eval_on_selector_all(".bd-sidebar-primary a", TEXTS)
    assert set(drawn) == {f"/{document}.html" for document in contents.chapters()}
    for address, text in drawn.items():
        assert listed[address].startswith(f"{text.split()[0]}. ")
