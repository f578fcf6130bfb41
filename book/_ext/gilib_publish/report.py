"""Links by which a reader reports an error on a page."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from gilib_publish.settings import Site
from gilib_publish.version import Version

NEW_ISSUE = {
    "github": ("/issues/new", "title", "body"),
    "gitlab": ("/-/issues/new", "issue[title]", "issue[description]"),
    "forgejo": ("/issues/new", "title", "body"),
}


def links(site: Site, page: str, title: str, found: Version) -> list[tuple[str, str]]:
    """Text and address of the links of a page, the public way first; none where nobody listens."""
    subject = f"Error on the page “{title}”"
    stamp = f"Version {found.number}" + (f", commit {found.commit[:7]}" if found.commit else "")
    body = f"Page: {site.page(page) or page}\n{stamp}\n\nWhat it says:\n\nWhat is wrong with it:\n"
    ways = []
    if site.forge:
        path, first, second = NEW_ISSUE[site.forge]
        ways.append(f"{site.repository}{path}?{urlencode({first: subject, second: body}, quote_via=quote)}")
    if site.contact:
        ways.append(f"mailto:{site.contact}?{urlencode({'subject': subject, 'body': body}, quote_via=quote)}")
    return list(zip(("Report an error on this page", "or by mail"), ways, strict=False))
