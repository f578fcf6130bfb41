"""The book in other forms, made of two pages: a PDF, an EPUB, and the site in a folder."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest
from built_site import SITE
from test_live_leak import LIVE

from tools.prints import epub, offline, pdf
from tools.prints.order import only, parts_of

DENSE, NOTATION = "chapters/recursion/dense.html", "book/notation.html"
PARTS = only(parts_of(), [NOTATION, DENSE])
OPF = "{http://www.idpf.org/2007/opf}"
HTML = "{http://www.w3.org/1999/xhtml}"


def test_the_order_is_that_of_the_site():
    pages = [page for part in parts_of() for page in part.pages]
    assert pages[0] == "book/index.html"
    assert len(pages) == len(set(pages)) > 30
    assert all((SITE / page).exists() for page in pages)
    assert [part.caption for part in PARTS] == ["Start", "Recursion-based attacks"]


@pytest.fixture(scope="module")
def book(browser, tmp_path_factory):
    """The PDF of two pages, read again."""
    from pypdf import PdfReader

    out = tmp_path_factory.mktemp("pdf") / "book.pdf"
    pdf.book(browser, SITE, PARTS, say=lambda line: None).write(out)
    return PdfReader(out)


def texts_of(book) -> list[str]:
    """The text of each sheet, without spaces."""
    return ["".join(sheet.extract_text().split()) for sheet in book.pages]


def outline_of(book, items=None, above=()) -> dict[tuple[str, ...], int]:
    """The sheet of each bookmark, by its path."""
    found, last = {}, ()
    for item in book.outline if items is None else items:
        if isinstance(item, list):
            found |= outline_of(book, item, last)
        else:
            last = (*above, item["/Title"])
            found[last] = book.get_destination_page_number(item)
    return found


def test_the_pdf_has_a_cover_contents_and_numbers(book):
    texts, starts = texts_of(book), {path[-1]: sheet for path, sheet in outline_of(book).items() if len(path) == 2}
    assert texts[0].startswith("GradientInversion")
    assert len(starts) == 2
    for title, sheet in starts.items():
        short = "".join(title.split())
        assert f"{short}{sheet + 1}" in texts[1]  # the contents say on which sheet it begins
        assert texts[sheet].count(short) >= 1
    assert all(text.endswith(str(number)) for number, text in enumerate(texts[1:], 2))


def test_the_bookmarks_lead_to_parts_pages_and_sections(book):
    texts = texts_of(book)
    places = outline_of(book)
    assert [path[0] for path in places if len(path) == 1] == ["Start", "Recursion-based attacks"]
    sections = {path: sheet for path, sheet in places.items() if len(path) == 3}
    assert len(sections) > 8
    assert all("".join(path[-1].split()) in texts[sheet] for path, sheet in sections.items())


def test_links_of_the_pdf_stay_in_it(book):
    notation = next(sheet for path, sheet in outline_of(book).items() if path[-1].startswith("Notation"))
    dense = next(sheet for path, sheet in outline_of(book).items() if len(path) == 2 and path[0] != "Start")
    links = [(sheet, link.get_object()) for sheet, page in enumerate(book.pages) for link in page.get("/Annots", [])]
    goals = [(sheet, book.get_page_number(link["/Dest"][0].get_object())) for sheet, link in links if "/Dest" in link]
    addresses = [link["/A"]["/URI"] for _, link in links if "/A" in link]
    assert not [address for address in addresses if "127.0.0.1" in address]
    assert (1, notation) in goals  # from the contents
    assert any(sheet >= dense and goal > sheet for sheet, goal in goals)  # to a figure further on


@pytest.fixture(scope="module")
def chapters(tmp_path_factory):
    """The EPUB of two pages, open."""
    out = tmp_path_factory.mktemp("epub") / "book.epub"
    epub.write(out, SITE, PARTS)
    with zipfile.ZipFile(out) as opened:
        yield opened


def test_the_epub_begins_with_its_type_and_lists_all_of_its_files(chapters):
    first, *others = chapters.infolist()
    assert (first.filename, first.compress_type, first.extra) == ("mimetype", zipfile.ZIP_STORED, b"")
    assert chapters.read("mimetype") == b"application/epub+zip"
    names = {one.filename for one in others}
    assert len(names) == len(others)
    package = ElementTree.fromstring(chapters.read("EPUB/package.opf"))
    items = {one.get("id"): one for one in package.iter(f"{OPF}item")}
    listed = {f"EPUB/{one.get('href')}" for one in items.values()}
    assert listed == names - {"META-INF/container.xml", "EPUB/package.opf"}
    spine = [items[one.get("idref")].get("href") for one in package.iter(f"{OPF}itemref")]
    assert spine == [page.replace(".html", ".xhtml") for page in (NOTATION, DENSE)]
    assert [one.get("href") for one in items.values() if one.get("properties") == "nav"] == ["nav.xhtml"]


def test_each_chapter_of_the_epub_is_whole(chapters):
    names = set(chapters.namelist())
    for name in (one for one in names if one.endswith(".xhtml")):
        page = ElementTree.fromstring(chapters.read(name))
        identifiers = [one.get("id") for one in page.iter() if one.get("id")]
        assert len(identifiers) == len(set(identifiers)), name
        assert not [one for kind in ("script", "button", "input", "canvas") for one in page.iter(HTML + kind)]
        addresses = [one.get("src") for one in page.iter(f"{HTML}img")]
        addresses += [one.get("href") for one in page.iter(f"{HTML}a") if one.get("href")]
        for address in addresses:
            target = urlsplit(address)
            if not target.scheme and target.path:
                assert file_of(name, target.path) in names, (name, address)


def file_of(name: str, address: str) -> str:
    """The name of the file to which an address in another one leads."""
    return Path("/", PurePosixPath(name).parent, unquote(address)).resolve().relative_to("/").as_posix()


def test_formulas_of_the_epub_are_mathml_and_no_picture_is_lost(chapters):
    site, book = (
        (SITE / DENSE).read_text(encoding="utf-8"),
        chapters.read("EPUB/chapters/recursion/dense.xhtml").decode(),
    )
    formulas = site.count('class="math notranslate')
    assert formulas > 20
    assert book.count("<math") == formulas
    assert 'class="math notranslate nohighlight">\\' not in book
    assert "mathml" in chapters.read("EPUB/package.opf").decode()
    pictures = [re.findall(r'<img[^>]*src="[./]*_images/([^"]+?)\.(?:webp|png|svg)"', text) for text in (site, book)]
    assert pictures[0] == pictures[1] != []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The zip of the site, unpacked."""
    place = tmp_path_factory.mktemp("offline")
    offline.write(place / "book.zip", SITE)
    with zipfile.ZipFile(place / "book.zip") as packed:
        packed.extractall(place)
    return place / offline.FOLDER


def test_the_site_works_from_a_folder(browser, folder):
    page = browser.new_page()
    problems = []
    page.on("console", lambda one: problems.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(request.url))
    for path in ("book/index.html", DENSE):
        page.goto(f"{folder.as_uri()}/{path}", wait_until="networkidle")
    page.wait_for_selector("mjx-container")
    page.goto(f"{folder.as_uri()}/index.html", wait_until="networkidle")  # leads to the landing page
    page.locator(f"{LIVE} [data-do=go]").click()
    page.wait_for_function(
        "document.querySelector('.gilib-live-server output').textContent.includes('dB')", timeout=120_000
    )
    page.goto(f"{folder.as_uri()}/search.html?q=label+restoration", wait_until="networkidle")
    page.wait_for_selector("#search-results ul.search li a")
    assert not problems
    assert "search" in (folder / "READ-ME.txt").read_text(encoding="utf-8")
    page.close()
