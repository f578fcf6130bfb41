"""What a build makes of site.toml: every item with everything set, none of them with nothing."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html import unescape
from html.parser import HTMLParser
from urllib.parse import unquote

import nbformat
import pytest
from gilib_publish.launch import CELL
from PIL import Image
from small_book import CHAPTER

ADDRESS = "https://example.org/books/gi/"
REPOSITORY = "https://github.com/owner/gradient-inversion"
PAGES = ["book/index", "book/words", "book/citing", CHAPTER]
each_page = pytest.mark.parametrize("page", PAGES)


class Head(HTMLParser):
    """The tags of a page's head, and its title."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, list[str]] = {}
        self.feed(text)
        self.title = unescape(re.search("<title>(.*?)</title>", text, re.DOTALL)[1])

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        name = found.get("property") or found.get("name") or found.get("rel")
        if tag in ("meta", "link") and name:
            self.tags.setdefault(name, []).append(found.get("content") or found.get("href") or "")


@each_page
def test_every_page_has_one_description_and_a_card(full, empty, page):
    for book in (full, empty):
        tags = Head(book.page(page)).tags
        (about,) = tags["description"]
        assert 40 < len(about) <= 160
        assert not re.search(r"[\\$<>*`\n]", about)
        assert tags["og:description"] == [about]
        assert tags["og:site_name"] == ["Gradient Inversion: an executable textbook"]
        assert tags["og:title"][0] in Head(book.page(page)).title
    tags = Head(full.page(page)).tags
    place = f"{ADDRESS}{page}.html"
    assert (tags["canonical"], tags["og:url"]) == ([place], [place])
    assert tags["og:image"] == [f"{ADDRESS}_static/preview.png"]
    assert tags["twitter:card"] == ["summary_large_image"]


def test_descriptions_are_plain_text(full):
    (about,) = Head(full.page("book/words")).tags["description"]
    assert about.startswith("The gradient ∂ f of a loss says how to lower it. Word")
    assert about.endswith("Word …")
    assert Head(full.page("book/words")).title == "Words & signs — Gradient Inversion"


def test_the_title_is_said_once(full, empty):
    for book in (full, empty):
        assert Head(book.page("book/index")).title == "Gradient Inversion: an executable textbook"


def test_the_card_is_a_picture(full, empty):
    with Image.open(full.site / "_static" / "preview.png") as picture:
        assert picture.size == (1200, 630)
        assert (
            len(picture.convert("RGB").resize((60, 32)).getcolors(2000)) > 300
        )  # text and photographs, not one colour
    assert not (empty.site / "_static" / "preview.png").exists()


def test_sitemap_and_robots(full):
    places = [one.text for one in ElementTree.parse(full.site / "sitemap.xml").findall(".//{*}loc")]
    assert places == sorted(f"{ADDRESS}{page}.html" for page in PAGES)
    robots = (full.site / "robots.txt").read_text(encoding="utf-8").splitlines()
    assert robots == ["User-agent: *", "Disallow:", "", f"Sitemap: {ADDRESS}sitemap.xml"]


def test_the_first_page_leads_on_and_shows_the_same_card(full, empty):
    assert 'content="0; url=book/index.html"' in empty.page("index")
    head, landing = Head(full.page("index")), Head(full.page("book/index"))
    for name in ("canonical", "description", "og:title", "og:url", "og:image"):
        assert head.tags[name] == landing.tags[name]


@pytest.mark.parametrize(
    "old, way, canonical",
    [("chapters/old/name", "../../book/words.html", "book/words"), ("gone", "book/words.html#signs", "book/words")],
)
def test_pages_that_moved_lead_on(full, old, way, canonical):
    text = full.page(old)
    assert f'content="0; url={way}"' in text
    assert f'<a href="{way}">' in text
    assert Head(text).tags["canonical"] == [f"{ADDRESS}{canonical}.html"]
    assert (full.site / old).parent.joinpath(way.partition("#")[0]).resolve().exists()


def test_the_page_for_what_is_missing_works_at_any_depth(full):
    text = full.page("404")
    links = re.findall(r'\s(?:href|src|action|data-content_root)="([^"]*)"', text)
    ours = [link for link in links if not link.startswith(("http", "mailto:", "#"))]
    assert len(ours) > 20
    assert [link for link in ours if not link.startswith("/books/gi/")] == []
    for link in ours:
        name = unquote(re.split("[?#]", link.removeprefix("/books/gi/"))[0])
        assert (full.site / name).exists(), link
    head = Head(text)
    assert head.tags["robots"] == ["noindex"]
    assert "canonical" not in head.tags
    assert "og:url" not in head.tags


@each_page
def test_a_reader_can_report_an_error(full, empty, page):
    links = re.search(r'<p class="gilib-report[^>]*>(.*?)</p>', full.page(page), re.DOTALL)[1]
    issue, mail = (unquote(unescape(url)) for url in re.findall('href="([^"]*)"', links))
    assert issue.startswith(f"{REPOSITORY}/issues/new?title=Error on the page")
    assert mail.startswith("mailto:errors@example.org?subject=Error on the page")
    for url in (issue, mail):
        assert f"Page: {ADDRESS}{page}.html\nVersion 0.1.0, commit {full.commit[:7]}\n" in url
    assert "gilib-report" not in empty.page(page)


def test_only_chapters_can_be_run(full, empty):
    for host in ("mybinder.org", "colab.research.google.com", "hub.example.edu"):
        assert f'href="https://{host}/' in full.page(CHAPTER)
        assert host not in full.page("book/words")
        assert host not in empty.page(CHAPTER)
    assert "fa-code-branch" in full.page("book/words")
    assert "fa-code-branch" not in empty.page("book/words")
    assert not re.findall(r'src="https?:', full.page(CHAPTER))


def test_published_notebooks_begin_with_what_they_need(full, empty):
    notebook = nbformat.read(full.site / "_sources" / f"{CHAPTER}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells].count(CELL) == 1
    first, rest = notebook.cells[0], notebook.cells[1:]
    for word in (REPOSITORY, full.commit, 'os.chdir("gradient-inversion/chapters/defenses")', '"../../gilib"'):
        assert word in first.source
    stored = nbformat.read(full.folder / f"{CHAPTER}.ipynb", as_version=4)
    assert rest == stored.cells
    published = json.loads((empty.site / "_sources" / f"{CHAPTER}.ipynb").read_text(encoding="utf-8"))
    assert published == json.loads((full.folder / f"{CHAPTER}.ipynb").read_text(encoding="utf-8"))


@each_page
def test_the_foot_of_a_page_says_its_version(full, empty, page):
    link = f'<a href="{REPOSITORY}/commit/{full.commit}">{full.commit[:7]}</a>'
    assert f'<p class="gilib-version">Version 0.1.0 of 2026-11-01, commit {link}</p>' in full.page(page)
    assert '<p class="gilib-version">Version 0.1.0</p>' in empty.page(page)
    assert "tracks nobody" in full.page(page)


def test_the_entry_for_a_bibliography(full, empty):
    def entry(book):
        listing = re.search('<div class="highlight-bibtex.*?<pre>(.*?)</pre>', book.page("book/citing"), re.DOTALL)[1]
        return unescape(re.sub("<[^>]*>", "", listing))

    assert entry(empty).startswith(
        "@book{gradientinversion2026,\n  title  = {{Gradient Inversion: an executable textbook}}"
    )
    assert "note   = {Version 0.1.0}" in entry(empty)
    assert "url" not in entry(empty)
    assert f"url    = {{{ADDRESS}}}" in entry(full)


def test_a_documented_key_that_works(full, empty):
    assert "A draft" in full.page("book/words")
    assert "bd-header-announcement" not in empty.page("book/words")


def test_nothing_set_names_no_address(empty):
    for page in PAGES:
        tags = Head(empty.page(page)).tags
        assert not {"canonical", "og:url", "og:image", "twitter:card"} & set(tags)
    for name in ("sitemap.xml", "robots.txt", "404.html"):
        assert not (empty.site / name).exists()


def test_what_cannot_be_used_ends_the_build(books):
    for name, words in (
        (
            "documented key",
            "_config.yml: `repository` is not read by this book; set `repository` and `branch` in site.toml",
        ),
        ("dead redirect", 'site.toml: redirects: "old" = "book/nowhere": there is no page book/nowhere to lead to'),
    ):
        assert words in " ".join(books[name].said.split())
        assert "not built" in books[name].said
        assert not (books[name].site / "book" / "words.html").exists()
