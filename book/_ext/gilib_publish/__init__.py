"""Sphinx extension: what a published copy of the book needs, all from the file site.toml.

Every page has a description and says its version. With an address there are canonical addresses, a sitemap, a picture
for links and a page for what is missing; with a repository or a contact, a way to report an error; with a repository,
notebooks that run alone, and buttons to run them. Pages that moved lead to where they are.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

from gilib_publish import documented, files, head, launch, preview, report
from gilib_publish.citing import BookAsBibtex, cited
from gilib_publish.settings import Site, read
from gilib_publish.version import Version, line, version

TEMPLATES = Path(__file__).parent / "templates"
GENERATED = {"genindex": "Index", "search": "Search"}  # pages whose titles stand in their templates


@cache
def site_of(root: str) -> Site:
    """The settings of a folder."""
    return read(Path(root))


@cache
def version_of(root: str) -> Version:
    """The version of a folder."""
    return version(Path(root))


def configure(app: Sphinx, config: Config) -> None:
    """Read the settings, refuse what would have no effect, and tell Sphinx and the theme."""
    root = str(app.srcdir)
    documented.check_file(Path(root))
    site = site_of(root)
    config.html_baseurl = site.address
    config.gilib_site = json.dumps(asdict(site), sort_keys=True)  # another value writes all pages anew
    config.templates_path.append(str(TEMPLATES))
    options = config.html_theme_options
    # Jupyter Book's default is its own repository, and its issues a button; ours are made here.
    options["repository_url"] = ""
    options["extra_footer"] = options.get("extra_footer", "") + line(version_of(root), site)
    options["article_footer_items"] = ["report-error.html"]


def check_pages(app: Sphinx, env: object) -> None:
    """Refuse redirects that cannot work, as soon as the pages are known."""
    files.check_redirects(site_of(str(app.srcdir)).redirects, set(app.env.found_docs))


def title_of(app: Sphinx) -> str:
    """The whole title of the book."""
    return cited(Path(app.srcdir))["title"]


def add_to_page(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Add to a page its title, its tags and its links for errors."""
    if app.builder.name != "html":
        return
    root, site = str(app.srcdir), site_of(str(app.srcdir))
    book = title_of(app)
    if page == app.config.root_doc:
        context["title"], context["docstitle"] = book, ""
    named = context.get("title") or context.get("indextitle") or GENERATED.get(page, book)
    title = html.unescape(re.sub(r"<[^>]+>", "", named))
    about = head.description(doctree) if doctree else f"{title}: {book}"
    found = list(head.tags(title, about, book, site.page(page), site))
    if not doctree or not head.own_description(doctree):  # Sphinx writes a page's own
        found.insert(0, ("name", "description", about))
    if page == files.MISSING:
        context["pageurl"], found = None, [("name", "robots", "noindex")]
    context["metatags"] = context.get("metatags", "") + head.written(found)
    context["report_links"] = report.links(site, page, title, version_of(root)) if doctree else []


def add_buttons(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Add to the row of buttons above a page where to run it, and where its sources are."""
    if doctree is None or app.builder.name != "html":
        return
    site = site_of(str(app.srcdir))
    places = launch.places(site, page) if Path(app.env.doc2path(page)).suffix == ".ipynb" else []
    if places:
        group = {"type": "group", "tooltip": "Run this chapter", "icon": "fas fa-rocket", "label": "launch-buttons"}
        context["header_buttons"].append(group | {"buttons": places})
    if site.forge:
        sources = {"type": "link", "tooltip": "Sources of the book", "icon": "fas fa-code-branch"}
        context["header_buttons"].append(sources | {"url": site.repository, "label": "repository-button"})


def missing_page(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Add the page that a server shows for what is not there."""
    if app.builder.name == "html" and site_of(str(app.srcdir)).address:
        body = files.BODY.format(root=f"{app.config.root_doc}.html")
        yield files.MISSING, {"title": "This page is not here", "body": body}, "page.html"


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Write what stands beside the pages."""
    if exception is not None or app.builder.name != "html":
        return
    root, site, out = Path(app.srcdir), site_of(str(app.srcdir)), Path(app.outdir)
    book, landing = title_of(app), app.config.root_doc
    launch.prepare(out / "_sources", site, version_of(str(root)).commit)
    files.write_redirects(out, site)
    about = head.description(app.env.get_doctree(landing))
    tags = [("name", "description", about), *head.tags(book, about, book, site.page(landing), site)]
    files.write_first(out, site, landing, book, head.written(tags))
    if not site.address:
        files.remove_stale(out)
        return
    preview.draw(root / "book", *book.split(": "), out / head.PREVIEW)
    files.write_sitemap(out, site, app.env.found_docs)
    missing = out / f"{files.MISSING}.html"
    missing.write_text(files.from_anywhere(missing.read_text(encoding="utf-8"), site), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_config_value("gilib_site", "", "html", [str])
    app.add_directive("book-as-bibtex", BookAsBibtex)
    app.connect("config-inited", configure)
    app.connect("env-updated", check_pages)
    app.connect("html-page-context", add_to_page, priority=400)  # before the theme takes empty templates out
    app.connect("html-page-context", add_buttons, priority=600)  # after the theme, which begins the row
    app.connect("html-collect-pages", missing_page)
    app.connect("build-finished", finish, priority=600)  # after gilib_light, which reads pages by their relative links
    return {"parallel_read_safe": True, "parallel_write_safe": True}
