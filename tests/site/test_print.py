"""On paper: tables whole, nothing cut, nothing closed, dark ink on white, a heading beside what it heads."""

from __future__ import annotations

import io

import pytest
from pypdf import PdfReader
from test_overflow import SAYS

SHEET = {"width": 665, "height": 987}  # A4 without margins, in pixels
MATRIX = "chapters/defenses/matrix.html"
API = "book/api/interop.html"
PAGES = [MATRIX, "chapters/foundations/first_leak.html", "chapters/defenses/encryption.html", API]
MARKED = """() => {
  const rows = [...document.querySelectorAll('table.gilib-filter tbody tr')];
  rows.forEach((row, place) => {
    row.cells[0].prepend(`begin${place}x `);
    row.cells[row.cells.length - 1].append(` x${place}end`);
  });
  return rows.length;
}"""
CUT = f"""() => {{ {SAYS}
  const seen = e => e.getClientRects().length && !e.closest('span.math, mjx-assistive-mml, .visually-hidden');
  const cut = e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth && getComputedStyle(e).overflowX !== 'visible';
  const out = e => e.getBoundingClientRect().right > innerWidth + 1;
  return [...document.querySelectorAll('.bd-article *')].filter(e => seen(e) && (out(e) || cut(e))).map(says)
}}"""
CLOSED = f"""() => {{ {SAYS}
  const how = {{ contentVisibilityAuto: true, opacityProperty: true, visibilityProperty: true }};
  const lost = e => !e.checkVisibility(how) && !e.closest('summary, .gilib-live, .gilib-scrub');
  return [...document.querySelectorAll('.bd-article :is(details, .admonition) :is(p, pre, img)')].filter(lost).map(says)
}}"""


def pdf_of(page) -> PdfReader:
    """Print a page as a reader's browser does."""
    return PdfReader(io.BytesIO(page.pdf(format="A4", print_background=True)))


@pytest.mark.parametrize("path", PAGES)
def test_print_loses_nothing(open_page, path):
    page = open_page(path, viewport=SHEET)
    page.emulate_media(media="print")
    assert page.evaluate(CUT) == []
    assert page.evaluate(CLOSED) == []
    assert page.locator(".bd-article h1").first.is_visible()


def test_print_is_the_same_for_a_reader_in_the_dark(open_page):
    light, dark = (pdf_of(open_page(API, scheme=scheme)) for scheme in ("light", "dark"))
    assert [sheet.get_contents().get_data() for sheet in light.pages] == [
        sheet.get_contents().get_data() for sheet in dark.pages
    ]
    page = open_page(API, scheme="dark")
    pdf_of(page)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_big_table_is_printed_whole(open_page):
    page = open_page(MATRIX)
    rows = page.evaluate(MARKED)
    assert rows > 100
    page.add_style_tag(content=".bd-article .cell:not(:has(table.gilib-filter)), .bd-article p { display: none }")
    printed = pdf_of(page)
    text = "".join("".join(sheet.extract_text().split()) for sheet in printed.pages)
    lost = [place for place in range(rows) if f"begin{place}x" not in text or f"x{place}end" not in text]
    assert not lost
    assert rows / 60 < len(printed.pages) < rows / 15  # rows have one line or two


def test_print_names_the_chapter_first(open_page):
    page = open_page("chapters/defenses/encryption.html")
    first = pdf_of(page).pages[0].extract_text()
    assert first.lstrip().startswith(page.locator(".bd-article h1").inner_text().removesuffix("#")[:30])
