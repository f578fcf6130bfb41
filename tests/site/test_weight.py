"""What a page weighs on its way to a reader, and how soon a phone on a slow line paints it."""

from __future__ import annotations

import functools
import gzip
import http.server
import io
import os
import statistics
import threading
from pathlib import Path

import pytest
from built_site import PHONE, SITE

CHAPTERS = sorted(path.relative_to(SITE).as_posix() for path in SITE.glob("chapters/*/*.html"))
LANDING = "book/index.html"
HEAVY = [f"chapters/{name}.html" for name in ("foundations/first_leak", "iteration/matching", "defenses/matrix")]
KILO = 1024
FAST_3G = {"offline": False, "latency": 562, "downloadThroughput": 1.44e6 / 8, "uploadThroughput": 675e3 / 8}
PRESSED = {".html", ".js", ".css", ".svg", ".ttf", ".json"}


class Pressing(http.server.SimpleHTTPRequestHandler):
    """Serves files as a host does, text compressed."""

    def log_message(self, *args):
        pass

    def send_head(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file() or path.suffix not in PRESSED:
            return super().send_head()
        body = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)


@pytest.fixture(scope="module")
def pressing():
    """Serve the site compressed; return its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Pressing, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def weigh(browser, pressing):
    """Return a function that loads a page to its end and says how many bytes came over the line."""
    contexts = []

    def whole(path):
        context = browser.new_context(viewport=PHONE)
        contexts.append(context)
        page = context.new_page()
        line, sizes = context.new_cdp_session(page), []
        line.send("Network.enable")
        line.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        page.goto(pressing + path)
        for place in range(0, page.evaluate("document.body.scrollHeight"), 3000):  # pictures load when they are near
            page.evaluate("place => scrollTo(0, place)", place)
            page.wait_for_timeout(20)
        page.wait_for_load_state("networkidle")
        return sum(sizes)

    yield whole
    for context in contexts:
        context.close()


def test_the_median_chapter_weighs_at_most_700_kilobytes(weigh):
    weights = {path: weigh(path) / KILO for path in CHAPTERS}
    assert statistics.median(weights.values()) <= 700, weights
    assert max(weights.values()) <= 1100, weights


def test_the_landing_page_weighs_at_most_400_kilobytes(weigh):
    assert weigh(LANDING) / KILO <= 400


BLOCKING = """() => performance.getEntriesByType('resource').filter(e => e.renderBlockingStatus === 'blocking')
  .map(e => [e.name.split('/').pop(), e.encodedBodySize])"""


@pytest.mark.parametrize("path", [LANDING, *HEAVY])
def test_little_stands_before_the_first_paint(browser, pressing, path):
    context = browser.new_context(viewport=PHONE)
    page = context.new_page()
    page.goto(pressing + path)
    blocking = page.evaluate(BLOCKING)
    context.close()
    assert len(blocking) <= 7, blocking
    assert sum(size for _, size in blocking) <= 120 * KILO, blocking
    assert not [name for name, _ in blocking if ".js" in name]


@pytest.mark.parametrize("path", [LANDING, *HEAVY])
def test_first_paint_on_fast_3g_and_a_slow_phone(browser, pressing, path):
    if os.getloadavg()[0] > (os.cpu_count() or 1) / 2:
        pytest.skip("other processes want the processor: times would say more about them than about the page")
    context = browser.new_context(viewport=PHONE)
    page = context.new_page()
    line = context.new_cdp_session(page)
    line.send("Network.enable")
    line.send("Network.emulateNetworkConditions", FAST_3G)
    line.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    page.goto(pressing + path, wait_until="commit", timeout=60_000)
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0", timeout=60_000)
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    context.close()
    assert painted < 3000
