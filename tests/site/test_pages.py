"""Every page: no error, no other host, no accessibility violation, no dead link."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from built_site import PAGES, ROOT, SITE

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
AUDIT = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
  .filter(v => ['serious', 'critical'].includes(v.impact))
  .map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).slice(0, 5).join(' | '))"""


each_page = pytest.mark.parametrize("path", PAGES)


def test_the_site_is_built():
    assert "book/index.html" in PAGES, f"no pages in {SITE}: run make book first"


@each_page
def test_loads_without_an_error_or_another_host_and_is_accessible_in_light_and_dark(open_page, path):
    page = open_page(path)
    assert not page.problems
    assert page.title()
    page.add_script_tag(path=str(AXE))
    # Colours would fade from one theme to the other, for as long as a busy machine takes.
    page.add_style_tag(content="*, *::before, *::after { transition: none !important; animation: none !important }")
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        page.wait_for_timeout(100)
        assert page.evaluate(AUDIT) == [], theme


class Links(HTMLParser):
    """Collect the addresses and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if name in ("href", "src") and value:
                self.links.add(value)


PARSED: dict[Path, Links] = {}


def parsed(path: Path) -> Links:
    """Parse a page once."""
    if path not in PARSED:
        PARSED[path] = Links(path.read_text(encoding="utf-8"))
    return PARSED[path]


def dead(page: str, link: str) -> bool:
    """Tell whether an internal link of ``page`` leads to no file or to no anchor."""
    target = urlsplit(urljoin(f"site:///{page}".replace("site", "http"), link))
    if link.startswith(("data:", "mailto:", "javascript:")) or target.netloc:
        return False
    file = SITE / unquote(target.path).lstrip("/")
    file = file / "index.html" if file.is_dir() else file
    if not file.is_file():
        return True
    return file.suffix == ".html" and unquote(target.fragment) not in parsed(file).anchors


@each_page
def test_internal_links_resolve(path):
    assert not [link for link in sorted(parsed(SITE / path).links) if dead(path, link)]


def test_a_dead_link_is_noticed():
    page = PAGES[0]
    assert dead(page, "nowhere.html")
    assert dead(page, f"/{page}#no-such-anchor")
    assert not dead(page, f"/{page}")
    assert not dead(page, "https://example.org/nowhere")


@each_page
def test_no_page_names_a_script_of_another_host(path):
    text = (SITE / path).read_text(encoding="utf-8")
    outside = [link for link in parsed(SITE / path).links if link.startswith("//")]
    assert not outside
    for host in ("unpkg.com", "cdn.jsdelivr.net", "cdnjs.cloudflare.com", "fonts.googleapis.com"):
        assert host not in text
