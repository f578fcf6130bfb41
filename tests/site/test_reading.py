"""What a reader does: move a figure, search, read mathematics, switch to dark, use only the keyboard, print."""

from __future__ import annotations

import io

import pytest
from built_site import PHONE, pages_with
from PIL import Image, ImageStat

FRAMES = pages_with('class="gilib-scrub"')
MATHS = pages_with('class="math')
FIGURES = [page for page in pages_with('class="cell_output') if page.startswith("chapters/")]
TABLES = pages_with('class="dataframe sortable')
FRAME = ".gilib-scrub .gilib-frame.is-shown"
SLIDER = ".gilib-scrub input[type=range]"
PLAY = ".gilib-scrub button"


def shown(page):
    """Return the picture, its alternative text and its label that a figure shows, all of one frame."""
    frame = page.locator(FRAME)
    assert frame.count() == page.locator(".gilib-scrub").count()
    image = frame.first.locator("img")
    assert image.is_visible()
    return image.get_attribute("src"), image.get_attribute("alt"), frame.first.locator("figcaption").inner_text()


def test_the_first_leak_has_a_figure_to_move():
    assert any(page.endswith("first_leak.html") for page in FRAMES)


def test_no_page_asks_for_the_scripts_of_widgets():
    assert not pages_with("application/vnd.jupyter.widget")
    assert not pages_with("embed-amd")


@pytest.mark.parametrize("path", FRAMES)
def test_the_slider_moves_the_picture_by_keyboard(open_page, path):
    page = open_page(path)
    before = shown(page)
    slider = page.locator(SLIDER).first
    slider.focus()
    page.keyboard.press("End")
    after = shown(page)
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert slider.get_attribute("aria-valuetext") == after[2]  # what is heard is what is seen
    page.keyboard.press("ArrowLeft")
    assert shown(page) != after  # two exact pictures look alike, their labels do not
    page.keyboard.press("Home")
    assert shown(page) == before
    assert not page.problems


@pytest.mark.parametrize("path", FRAMES)
def test_the_slider_moves_the_picture_by_pointer(open_page, path):
    page = open_page(path, viewport=PHONE)
    before, slider = shown(page), page.locator(SLIDER).first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box["height"] >= 24
    page.mouse.click(box["x"] + box["width"] * 0.95, box["y"] + box["height"] / 2)
    assert shown(page)[0] != before[0]


@pytest.mark.parametrize("path", FRAMES)
def test_the_play_button_moves_the_picture_and_stops(open_page, path):
    page = open_page(path)
    before, play = shown(page), page.locator(PLAY).first
    play.press("Enter")
    page.wait_for_function("src => document.querySelector('.is-shown img').src !== src", arg=before[0])
    assert play.get_attribute("aria-pressed") == "true"
    play.press("Enter")
    assert play.get_attribute("aria-pressed") == "false"
    stopped = shown(page)
    page.wait_for_timeout(800)
    assert shown(page) == stopped
    assert not page.problems


@pytest.mark.parametrize("path", FRAMES)
def test_the_controls_have_names(open_page, path):
    page = open_page(path)
    assert all(label.inner_text().strip() for label in page.locator(".gilib-scrub label").all())
    assert all(play.get_attribute("aria-label") for play in page.locator(PLAY).all())


def assert_some_frames_stand_side_by_side(page):
    frames = [frame for frame in page.locator(".gilib-scrub").first.locator(".gilib-frame").all() if frame.is_visible()]
    assert 2 <= len(frames) <= 6
    assert all(frame.locator("img").get_attribute("alt") for frame in frames)
    assert not page.locator(SLIDER).first.is_visible()


@pytest.mark.parametrize("path", FRAMES)
def test_without_scripts_some_frames_stand_side_by_side(open_page, path):
    assert_some_frames_stand_side_by_side(open_page(path, scripts=False))


@pytest.mark.parametrize("path", FRAMES)
def test_in_print_some_frames_stand_side_by_side(open_page, path):
    page = open_page(path)
    page.emulate_media(media="print")
    assert_some_frames_stand_side_by_side(page)


def test_search_finds_label_restoration(open_page):
    page = open_page("search.html?q=label+restoration")
    page.wait_for_selector("#search-results ul.search li a")
    links = [link.get_attribute("href") for link in page.locator("#search-results ul.search li a").all()]
    assert any("chapters/" in link for link in links)
    assert not page.problems


def test_the_search_box_leads_to_the_results(open_page):
    page = open_page("book/index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("label restoration")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results ul.search li a")


@pytest.mark.parametrize("path", MATHS)
def test_mathematics_is_typeset(open_page, path):
    page = open_page(path)
    page.wait_for_selector("mjx-container")
    assert page.locator("mjx-container").count() >= page.locator(".math").count()
    assert page.locator("mjx-merror").count() == 0
    assert page.locator("mjx-assistive-mml").count() > 0


def test_the_theme_switches_and_stays(open_page):
    page = open_page("book/index.html")
    theme = "document.documentElement.dataset.theme"
    seen = set()
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").first.click()
        seen.add(page.evaluate(theme))
    assert seen == {"light", "dark"}
    page.evaluate("localStorage.setItem('mode', 'dark'); localStorage.setItem('theme', 'dark')")
    page.reload()
    assert page.evaluate(theme) == "dark"
    assert brightness(page.screenshot()) < 90


def brightness(png):
    """Return the mean grey value of a picture, 0 to 255."""
    return ImageStat.Stat(Image.open(io.BytesIO(png)).convert("L")).mean[0]


@pytest.mark.parametrize("path", FIGURES)
def test_figures_stay_legible_in_the_dark(open_page, path):
    page = open_page(path, scheme="dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    for picture in page.locator(".bd-article .cell_output img").all():
        if picture.is_visible():
            card = Image.open(io.BytesIO(picture.screenshot())).convert("L")
            edge = card.crop(
                (3, card.height // 3, 7, card.height // 2)
            )  # between the frame of the card and the drawing
            assert ImageStat.Stat(edge).mean[0] > 200, picture.get_attribute("alt")


def column(page, place):
    """Return the texts of one column of the first table that sorts, without the rows that are filtered out."""
    rows = page.locator("table.sortable").first.locator("tbody tr:visible")
    return rows.locator(f"td:nth-child({place})").all_inner_texts()


def test_the_matrix_has_a_table_that_sorts():
    assert [page for page in TABLES if page.endswith("matrix.html")]


@pytest.mark.parametrize("path", TABLES)
def test_a_table_sorts_by_keyboard(open_page, path):
    page = open_page(path)
    head = page.locator("table.sortable th").first
    before = column(page, 1)
    head.focus()
    assert head.evaluate("e => e === document.activeElement")
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    up = column(page, 1)
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    down = column(page, 1)
    assert sorted(up) == sorted(before) == sorted(down)
    assert up[0] == down[-1]
    assert up[-1] == down[0] != up[0]
    assert not page.problems


@pytest.mark.parametrize("path", TABLES)
def test_a_table_filters_by_words(open_page, path):
    page = open_page(path, viewport=PHONE)
    everything = column(page, 1)
    box = page.get_by_label("Filter").first
    box.fill(everything[-1])
    kept = column(page, 1)
    assert 0 < len(kept) < len(everything)
    assert everything[-1] in kept
    assert (
        page.locator(".gilib-filter-bar [role=status]").first.inner_text() == f"{len(kept)} of {len(everything)} rows"
    )
    box.fill("")
    assert len(column(page, 1)) == len(everything)


@pytest.mark.parametrize("path", TABLES)
def test_a_table_is_complete_without_scripts(open_page, path):
    assert len(column(open_page(path), 1)) == len(column(open_page(path, scripts=False), 1))
