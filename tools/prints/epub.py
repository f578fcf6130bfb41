"""The book as an EPUB 3: ``python -m tools.prints.epub OUT [PAGE ...]``, from the built site and without a browser.

The chapters are those of the site, so that numbers, figures and references are the same. Readers of EPUB run no
scripts: what a button opens is open, what moves stands as single pictures, and formulas are MathML.
"""

from __future__ import annotations

import datetime
import io
import os.path
import re
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote

from bs4 import Tag
from PIL import Image
from pygments.formatters import HtmlFormatter

from tools.prints.article import article, clean, with_links, with_mathml, xhtml
from tools.prints.order import ROOT, SITE, Part, only, parts_of
from tools.prints.package import CONTAINER, TYPES, Chapter, contents, package

CODE = "a11y-high-contrast-light"


def with_pictures(one: Tag, path: str, site: Path, pictures: dict[str, bytes]) -> None:
    """Collect the pictures of a page; WebP, which not every reader shows, becomes PNG."""
    for image in one.select("img[src]"):
        source = unquote(str(image["src"]))
        if source.startswith("data:"):
            continue
        place = os.path.normpath(os.path.join(os.path.dirname(path), source))
        name, file = place, site / place
        if file.suffix.lower() not in TYPES:
            name = str(Path(place).with_suffix(".png"))
            image["src"] = str(Path(source).with_suffix(".png"))
        if name not in pictures:
            pictures[name] = file.read_bytes() if name == place else as_png(file)


def as_png(file: Path) -> bytes:
    """A picture as PNG."""
    written = io.BytesIO()
    with Image.open(file) as picture:
        picture.save(written, "PNG", optimize=True)
    return written.getvalue()


def chapters_of(site: Path, parts: list[Part], pictures: dict[str, bytes]) -> dict[str, Chapter]:
    """Map pages of the site to chapters, and collect their pictures."""
    pages = [page for part in parts for page in part.pages]
    articles = {page: article((site / page).read_text(encoding="utf-8")) for page in pages}
    with_mathml(list(articles.values()))
    chapters = {}
    for page, one in articles.items():
        with_links(one, page, set(pages))
        with_pictures(one, page, site, pictures)
        clean(one)
        title = re.sub(r"\s+", " ", one.select_one("h1").get_text()).strip()
        styles = "../" * page.count("/") + "book.css"
        name = page.removesuffix(".html") + ".xhtml"
        chapters[page] = Chapter(name, title, xhtml(one, title, styles))
    return chapters


def write(out: Path, site: Path, parts: list[Part]) -> None:
    """Write the EPUB of some parts of a built site."""
    pictures: dict[str, bytes] = {"cover.png": (ROOT / "book" / "images" / "cover.png").read_bytes()}
    chapters = chapters_of(site, parts, pictures)
    styles = Path(__file__).with_name("epub.css").read_text(encoding="utf-8")
    styles += HtmlFormatter(style=CODE).get_style_defs(".highlight")
    files: dict[str, str | bytes] = {
        "nav.xhtml": contents(parts, chapters),
        "book.css": styles,
        **pictures,
    }
    modified = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    listed = package(list(chapters.values()), files, modified)
    files |= {one.name: one.text for one in chapters.values()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr(zipfile.ZipInfo("mimetype"), "application/epub+zip", zipfile.ZIP_STORED)
        book.writestr("META-INF/container.xml", CONTAINER)
        book.writestr("EPUB/package.opf", listed)
        for name, content in files.items():
            book.writestr(f"EPUB/{name}", content)


def main() -> None:
    """Write the book."""
    if not (SITE / "book" / "index.html").exists():
        sys.exit(f"no site in {SITE}: run make book first")
    out, pages = Path(sys.argv[1]), sys.argv[2:]
    parts = only(parts_of(), pages) if pages else parts_of()
    write(out, SITE, parts)
    print(f"{out}: {sum(len(part.pages) for part in parts)} chapters, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
