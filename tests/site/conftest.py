"""A real browser, the built site on 127.0.0.1, and pages that record what goes wrong in them."""

from __future__ import annotations

import os

import pytest
from built_site import DESKTOP, PAGES, SITE

from tools.prints.browser import FLAGS, MISSING, find_browser, served


@pytest.fixture(scope="session")
def base():
    """Serve the site; return its address."""
    assert PAGES, f"no page in {SITE}: run make book first"
    with served(SITE) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    """Start the browser once; without one, skip, or fail where GILIB_REQUIRE_BROWSER is 1."""
    executable = find_browser()
    if executable is None:
        if os.environ.get("GILIB_REQUIRE_BROWSER") == "1":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, base):
    """Return a function that opens a page of the site; what goes wrong in it collects in ``page.problems``."""
    contexts = []

    def open_one(path, *, viewport=DESKTOP, scheme="light", scripts=True):
        context = browser.new_context(viewport=viewport, color_scheme=scheme, java_script_enabled=scripts)
        contexts.append(context)
        page = context.new_page()
        page.problems = []
        page.on("console", lambda m: page.problems.append(f"console: {m.text}") if m.type == "error" else None)
        page.on("pageerror", lambda error: page.problems.append(f"script error: {error}"))
        page.on("response", lambda r: page.problems.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        local = (base, "data:", "blob:")
        page.on(
            "request", lambda r: None if r.url.startswith(local) else page.problems.append(f"leaves the site: {r.url}")
        )
        page.goto(base + path)
        page.wait_for_load_state("networkidle")
        return page

    yield open_one
    for context in contexts:
        context.close()
