"""What every page says of itself, in a site that was published nowhere: site.toml is empty as committed."""

from __future__ import annotations

import re
from html import unescape

import pytest
from built_site import PAGES, SITE

DESCRIPTION = re.compile(r'<meta (?:name="description" content="([^"]*)"|content="([^"]*)" name="description") ?/?>')
each_page = pytest.mark.parametrize("path", PAGES)


def descriptions(path: str) -> list[str]:
    """The descriptions of a page, as text."""
    found = DESCRIPTION.findall((SITE / path).read_text(encoding="utf-8"))
    return [unescape(one or other) for one, other in found]


@each_page
def test_a_page_has_one_description_in_plain_words(path):
    (about,) = descriptions(path)
    assert 40 < len(about) <= 160
    assert not re.search(r"[\\$<>*`\n]|/chapters/", about)
    assert about[0].isupper() or about.startswith("gilib")


def test_descriptions_differ():
    said = [about for path in PAGES if path != "index.html" for about in descriptions(path)]
    assert len(set(said)) == len(said)


@each_page
def test_the_name_of_the_book_stands_once_in_a_title(path):
    (title,) = re.findall("<title>(.*?)</title>", (SITE / path).read_text(encoding="utf-8"), re.DOTALL)
    assert title.count("Gradient Inversion") == 1


@each_page
def test_an_unpublished_page_names_no_address_and_says_its_version(path):
    text = (SITE / path).read_text(encoding="utf-8")
    for word in ('rel="canonical"', "og:url", "og:image", "gilib-report", "fa-rocket", "fa-code-branch"):
        assert word not in text
    assert path == "index.html" or re.search(r'<p class="gilib-version">Version \d+\.\d+\.\d+( of |</p>)', text)


def test_the_site_has_no_files_for_an_address():
    for name in ("sitemap.xml", "robots.txt", "404.html", "_static/preview.png"):
        assert not (SITE / name).exists()
