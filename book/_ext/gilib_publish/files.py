"""Files beside the pages: sitemap, robots, redirects, the first page, and the page for what is not there."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, urlsplit

from sphinx.errors import ConfigError

from gilib_publish.head import PREVIEW
from gilib_publish.settings import FILE, Site

MISSING = "404"
OWN = re.compile(r'(?P<name>\s(?:href|src|action|data-content_root)=")(?![a-z]+:|/|#)(?P<place>[^"]*)"')
BODY = """<section id="not-found">
<h1>This page is not here</h1>
<p>It may have moved, or the address has a typing error.
The <a href="{root}">first page</a> has all chapters, and the <a href="search.html">search</a> finds words in them.</p>
</section>"""
REDIRECT = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <title>{title}</title>
    <meta http-equiv="refresh" content="0; url={target}" />{head}
  </head>
  <body><p>This page is at <a href="{target}">{target}</a>.</p></body>
</html>
"""


def check_redirects(redirects: dict[str, str], pages: set[str]) -> None:
    """Refuse what leads from a page that is still there, or to one that is not."""
    for old, new in redirects.items():
        given = f'{FILE}: redirects: "{old}" = "{new}"'
        target = new.partition("#")[0]
        if not re.fullmatch(r"[\w./-]+", old) or old.startswith("/") or ".." in old.split("/") or old.endswith(".html"):
            raise ConfigError(
                f'{given}: write pages from the top folder and without .html, as in "chapters/part/name".'
            )
        if old in pages:
            raise ConfigError(
                f"{given}: the page {old} is still there, so nothing can lead away from it. Take one of them out."
            )
        if target not in pages:
            raise ConfigError(f"{given}: there is no page {target} to lead to. Pages are written as in _toc.yml.")


def write_redirects(out: Path, site: Site) -> None:
    """Write a page for each page that moved. Its link is relative, so that it works from any folder."""
    for old, new in site.redirects.items():
        page, _, anchor = new.partition("#")
        target = os.path.relpath(f"{page}.html", start=os.path.dirname(old) or ".") + (f"#{anchor}" if anchor else "")
        canonical = f'\n    <link rel="canonical" href="{site.page(page)}" />' if site.address else ""
        head = canonical + '\n    <meta name="robots" content="noindex" />'
        path = out / f"{old}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(REDIRECT.format(title="Moved", target=quote(target, safe="/.#-_"), head=head), encoding="utf-8")


def write_first(out: Path, site: Site, root: str, title: str, head: str) -> None:
    """Write the page at the address itself: it leads to the landing page, and a link to it shows the same card."""
    canonical = f'\n    <link rel="canonical" href="{site.page(root)}" />' if site.address else ""
    text = REDIRECT.format(title=html.escape(title), target=f"{root}.html", head=canonical + head)
    (out / "index.html").write_text(text, encoding="utf-8")


def write_sitemap(out: Path, site: Site, pages: Iterable[str]) -> None:
    """Write what search engines ask for. They look for robots.txt at the top of a host, and ignore it elsewhere."""
    places = "".join(f"  <url><loc>{html.escape(site.page(quote(page)))}</loc></url>\n" for page in sorted(pages))
    head = '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
    (out / "sitemap.xml").write_text(f"{head}{places}</urlset>\n", encoding="utf-8")
    (out / "robots.txt").write_text(
        f"User-agent: *\nDisallow:\n\nSitemap: {site.address}sitemap.xml\n", encoding="utf-8"
    )


def from_anywhere(text: str, site: Site) -> str:
    """The text of a page of the top folder whose links work at whatever address it is shown."""
    path = urlsplit(site.address).path

    def whole(match: re.Match[str]) -> str:
        place = match["place"].removeprefix("./")
        return f'{match["name"]}{path}{place}"'

    return OWN.sub(whole, text)


def remove_stale(out: Path) -> None:
    """Remove what an earlier build with an address left."""
    for name in ("sitemap.xml", "robots.txt", f"{MISSING}.html", PREVIEW):
        (out / name).unlink(missing_ok=True)
