"""The whole book as one PDF: ``python -m tools.prints.pdf OUT [PAGE ...]``, from the built site and with a Chromium.

Pages of the site are printed one by one, so that numbers, figures and references are those of the site, and joined in
the order of ``_toc.yml``. With names of pages ("chapters/recursion/dense.html") the book has only these.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pypdf import PdfWriter

from tools.prints.browser import FLAGS, MISSING, find_browser, served
from tools.prints.contents import first_sheets
from tools.prints.joining import join
from tools.prints.order import SITE, Part, only, parts_of
from tools.prints.printing import print_pages, print_text


def book(browser: Any, site: Path, parts: list[Part], say: Any = print) -> PdfWriter:
    """Print the pages of some parts of a built site and join them; ``say`` hears of each."""
    with served(site) as base:
        printed = []
        for page in print_pages(browser, base, [path for part in parts for path in part.pages]):
            say(f"{page.path}: {len(page.pdf.pages)} sheets")
            printed.append(page)
        titles, front = {page.path: page.title for page in printed}, None
        numbers = dict.fromkeys(titles, 0)
        while front is None or numbers != counted(printed, len(front.pages)):
            numbers = counted(printed, len(front.pages) if front else 2)
            front = print_text(browser, first_sheets(parts, titles, numbers, base))
        return join(front, printed, parts, base)


def counted(printed: list[Any], first: int) -> dict[str, int]:
    """The numbers of the sheets on which pages start, counted from 1, after ``first`` sheets."""
    numbers = {}
    for page in printed:
        numbers[page.path], first = first + 1, first + len(page.pdf.pages)
    return numbers


def main() -> None:
    """Write the book."""
    executable = find_browser()
    if executable is None:
        sys.exit(MISSING)
    if not (SITE / "book" / "index.html").exists():
        sys.exit(f"no site in {SITE}: run make book first")
    from playwright.sync_api import sync_playwright

    out, pages = Path(sys.argv[1]), sys.argv[2:]
    parts = only(parts_of(), pages) if pages else parts_of()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        written = book(browser, SITE, parts)
        browser.close()
    out.parent.mkdir(parents=True, exist_ok=True)
    written.write(out)
    print(f"{out}: {len(written.pages)} sheets, {out.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
