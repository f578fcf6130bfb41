"""The site as a zip that works from a folder, without a server: ``python -m tools.prints.offline OUT``.

A page that was opened from a folder may not read other files. All of the site does without, but for the lines of text
under the hits of a search; the zip has search results without them.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tools.prints.order import SITE

FOLDER = "gradient-inversion"
SUMMARIES = ("SHOW_SEARCH_SUMMARY: true", "SHOW_SEARCH_SUMMARY: false")
SAVED = {".png", ".webp", ".jpg", ".woff", ".woff2", ".zip"}  # packed already
README = """Gradient Inversion: an executable textbook, as a folder

Unpack the whole zip and open index.html in a browser. Nothing has to be installed, and nothing is loaded from
elsewhere.

- Everything works as on the site: figures that move, tables that sort and filter, the experiments, light and dark.
- The search finds pages and names, but does not show lines of their text: a browser does not let a page that was opened
  from a folder read other files. With Python, `python3 -m http.server` in this folder serves the book to this machine.
- The camera of the first experiment may be refused by some browsers for pages from a folder. Drawing and files work.

Text: CC BY 4.0. Code: MIT.
"""


def files_of(site: Path) -> Iterable[tuple[str, bytes]]:
    """The files of the zip, by name: a note to the reader, and those of the site."""
    yield "READ-ME.txt", README.encode()
    for path in sorted(site.rglob("*")):
        if path.is_file() and path.name != ".buildinfo":
            content = path.read_bytes()
            if path.name in ("search.html", "documentation_options.js"):
                content = content.replace(*(text.encode() for text in SUMMARIES))
            yield path.relative_to(site).as_posix(), content


def write(out: Path, site: Path) -> None:
    """Write the zip of a built site."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files_of(site):
            kind = zipfile.ZIP_STORED if Path(name).suffix in SAVED else zipfile.ZIP_DEFLATED
            packed.writestr(f"{FOLDER}/{name}", content, kind)


def main() -> None:
    """Write the zip."""
    if not (SITE / "book" / "index.html").exists():
        sys.exit(f"no site in {SITE}: run make book first")
    out = Path(sys.argv[1])
    write(out, SITE)
    print(f"{out}: {out.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
