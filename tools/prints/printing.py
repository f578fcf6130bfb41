"""Print pages of the site with a browser, and note where their anchors came to lie."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pypdf import PdfReader

PAPER = {"format": "A4", "print_background": True}
MARGIN = {"top": "18mm", "bottom": "18mm", "left": "17mm", "right": "17mm"}
HEAD = (
    '<div style="font: 9px sans-serif; color: #4a5565; width: 100%; margin: 0 17mm"><span class="title"></span></div>'
)
# A browser notes the places of those anchors that the page itself links to.
ANCHORS = """() => {
  const links = document.createElement('div');
  links.hidden = true;
  for (const found of document.querySelectorAll('.bd-article [id]')) {
    const link = document.createElement('a');
    link.href = '#' + encodeURIComponent(found.id);
    links.append(link);
  }
  document.body.append(links);
  document.querySelectorAll('img').forEach(image => { image.loading = 'eager' });
  return Promise.all([...document.images].map(image => image.decode().catch(() => null)));
}"""
TITLE = "() => document.querySelector('.bd-article h1').cloneNode(true).textContent.replace('#', '').trim()"
SECTIONS = """() => [...document.querySelectorAll('.bd-article section > h2')]
  .map(head => [head.parentElement.id, head.textContent.replace(/#$/, '').trim()])"""


@dataclass(frozen=True)
class Printed:
    """A page of the site on paper."""

    path: str
    title: str
    sections: tuple[tuple[str, str], ...]  # anchor and title
    pdf: PdfReader

    def places(self) -> dict[str, tuple[int, float]]:
        """Map anchors to a sheet, counted from 0, and a height on it."""
        return {
            name.removeprefix("/"): (self.pdf.get_destination_page_number(goal), float(goal["/Top"]))
            for name, goal in self.pdf.named_destinations.items()
        }


def print_pages(browser: Any, base: str, paths: list[str]) -> Iterator[Printed]:
    """Print pages of the site that is served at ``base``, one after another."""
    for path in paths:
        page = browser.new_page(color_scheme="light")
        page.goto(base + path, wait_until="networkidle", timeout=120_000)
        page.evaluate("() => window.MathJax?.startup?.promise")
        page.evaluate(ANCHORS)
        title, sections = page.evaluate(TITLE), page.evaluate(SECTIONS)
        page.evaluate("title => { document.title = title }", title)
        written = page.pdf(
            **PAPER, margin=MARGIN, display_header_footer=True, header_template=HEAD, footer_template="<span></span>"
        )
        page.close()
        yield Printed(path, title, tuple(map(tuple, sections)), PdfReader(io.BytesIO(written)))


def print_text(browser: Any, text: str) -> PdfReader:
    """Print a page that is given as HTML."""
    page = browser.new_page(color_scheme="light")
    page.set_content(text, wait_until="load")
    written = page.pdf(**PAPER, margin=MARGIN)
    page.close()
    return PdfReader(io.BytesIO(written))
