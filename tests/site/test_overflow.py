"""What is wide: nothing is cut on a desktop; on a phone each box that scrolls shows it and is reached by keyboard."""

from __future__ import annotations

import pytest
from built_site import DESKTOP, PAGES, PHONE

SIDEWAYS = """() => {
  const wide = document.documentElement.scrollWidth;
  const sticksOut = e => e.getBoundingClientRect().right > innerWidth + 1;
  const culprits = [...document.querySelectorAll('body *')].filter(sticksOut);
  return [wide, innerWidth, culprits.slice(0, 5).map(e => e.tagName + '.' + e.className)];
}"""
OPEN = """() => {
  document.querySelectorAll('details').forEach(e => { e.open = true });
  document.querySelectorAll('.toggle-hidden').forEach(e => e.classList.remove('toggle-hidden'));
}"""
# Wider than its box by more than a rounding; what it says, shortened.
WIDE = "const wide = e => e.clientWidth && e.scrollWidth > e.clientWidth + 1;"
SAYS = "const says = e => e.tagName + ': ' + [...e.textContent].slice(0, 60).join('');"
CUT = f"""() => {{ {WIDE} {SAYS}
  const boxes = document.querySelectorAll('.bd-article :is(mjx-container[display], .cell_output pre)');
  return [...boxes].filter(wide).map(says)
}}"""
UNSEEN = f"""() => {{ {WIDE} {SAYS}
  const scrolls = e => wide(e) && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
  const shows = e => e.tabIndex === 0 && getComputedStyle(e).maskImage.includes('gradient(to right');
  return [...document.querySelectorAll('.bd-article *')].filter(e => scrolls(e) && !shows(e)).map(says)
}}"""
# A formula in a line does not scroll: what sticks out of it is lost.
LOST = f"""() => {{ {SAYS}
  const width = e => e.getBoundingClientRect().width;
  const lost = e => width(e) && width(e.querySelector('mjx-math')) > width(e) + 1;
  return [...document.querySelectorAll('.bd-article span.math:has(mjx-math)')].filter(lost).map(says)
}}"""


def settled(page, script):
    """What a script finds once the page has answered to its new size, which takes a frame or more."""
    found = page.evaluate(script)
    for _ in range(30):
        if not found:
            break
        page.wait_for_timeout(100)
        found = page.evaluate(script)
    return found


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_cut_and_boxes_that_scroll_say_so(open_page, path):
    page = open_page(path, viewport=DESKTOP)
    page.evaluate(OPEN)
    assert page.evaluate(CUT) == []
    page.set_viewport_size(PHONE)
    page.evaluate(OPEN)
    wide, width, culprits = page.evaluate(SIDEWAYS)
    assert wide <= width, culprits
    assert settled(page, UNSEEN) == []
    assert page.evaluate(LOST) == []


def test_a_box_says_where_it_goes_on(open_page):
    page = open_page("chapters/defenses/matrix.html", viewport=PHONE)
    box = page.locator(".table-box:has(table.gilib-filter)").first
    page.evaluate(OPEN)
    mask = "e => getComputedStyle(e).maskImage"
    assert box.evaluate(mask).count("rgba(0, 0, 0, 0.25)") == 2  # to the right, and down
    assert settled(page, UNSEEN) == []
    box.evaluate("e => e.scrollTo(e.scrollWidth, e.scrollHeight)")
    page.wait_for_function("e => !e.className.includes('gilib-goes')", arg=box.element_handle())
    assert box.evaluate(mask) == "none"
    page.add_style_tag(content=".bd-article * { mask-image: none !important }")
    assert page.evaluate(UNSEEN) != []  # the test sees what is not shown
