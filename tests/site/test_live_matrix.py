"""The explorer of the matrix: it shows the stored numbers and pictures, by hand, by keyboard and by its address."""

from __future__ import annotations

import re
from functools import cache
from urllib.parse import parse_qs

import pytest
import torch
from built_site import PHONE, ROOT, SITE, pages_with

from gilib.matrix import DEFENSES
from gilib.matrix.pictures import names
from gilib.studies import load
from gilib.widgets import shade

LIVE = '.gilib-live[data-live="matrix"]'
PAGES = pages_with('data-live="matrix"')
CHAPTER = "chapters/defenses/matrix.html"
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
AUDIT = """async () => (await axe.run(document.querySelector('.gilib-live'), {resultTypes: ['violations']})).violations
  .map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).slice(0, 5).join(' | '))"""
PATIENCE = 120_000
TABLE = f"""() => {{
  const table = document.querySelector('{LIVE} table');
  const texts = row => [...row.cells].map(cell => cell.textContent);
  const [, ...heads] = texts(table.tHead.rows[0]);
  const colour = cell => [getComputedStyle(cell).backgroundColor, getComputedStyle(cell.firstChild).color];
  return [...table.tBodies[0].rows].flatMap(row => heads.map((head, place) =>
    [row.cells[0].textContent, head, row.cells[place + 1].textContent, colour(row.cells[place + 1])]));
}}"""
DIGITS = {
    "Inverting Gradients (LeNet)": ("digits, LeNet", "Inverting Gradients"),
    "Linear loss (LeNet)": ("digits, LeNet", "Linear loss"),
    "DLG (LeNet)": ("digits, LeNet", "DLG"),
    "GIAS (LeNet)": ("digits, LeNet", "GIAS"),
    "R-GAP (ConvNet)": ("digits, ConvNet", "R-GAP"),
    "Division (MLP)": ("digits, MLP", "Division"),
    "SPEAR (MLP)": ("digits, MLP", "SPEAR"),
}
FOURS = {
    "Inverting Gradients (LeNet)": ("digits, LeNet, fours", "Inverting Gradients"),
    "Division (MLP)": ("digits, MLP, fours", "Division"),
    "SPEAR (MLP)": ("digits, MLP, fours", "SPEAR"),
}
WIDTHS = {
    f"Inverting Gradients ({scene.removeprefix('digits, ')})": (scene, "Inverting Gradients")
    for scene in ("digits, LeNet", "digits, LeNet, 218 a pixel", "digits, LeNet, 842 a pixel")
}
PHOTOS = {
    f"Inverting Gradients, TV ({scene.removeprefix('photographs, ')})": (scene, "Inverting Gradients, TV")
    for scene in ("photographs, LeNet", "photographs, LeNet, fours", "photographs, ResNet-8")
}
PEOPLE = {"0": DIGITS, "1": FOURS, "2": WIDTHS, "3": PHOTOS}
START = {
    "attacker": "better",
    "stage": "0",
    "rounds": "1",
    "people": "0",
    "network": "",
    "show": "median",
    "from": "25",
}
VIEWS = [
    {"attacker": "plain", "stage": "100", "show": "worst"},
    {"attacker": "adaptive", "rounds": "16"},
    {"people": "1", "show": "share", "stage": "100"},
    {"people": "2", "network": "LeNet, 842 a pixel"},
    {"people": "3", "attacker": "adaptive"},
    {"network": "MLP", "stage": "20"},
]


@cache
def stored():
    found = {}
    for one in load(ROOT / "bench" / "matrix.jsonl"):
        found.setdefault((one["defense"], one["scene"], one["attack"], one.get("stage"), one.get("rounds")), []).append(
            one
        )
    return found


def results(defense, head, view):
    place = (defense, *PEOPLE[view["people"]][head], int(view["stage"]), int(view["rounds"]))
    return stored().get(place, [])


def of_one(some, way):
    """PSNR of all people under one attacker: None where not measured, empty where the attack does not apply."""
    sides = [one["adaptive"] if way == "plain" and not one["differs"] else one.get(way) for one in some]
    if not sides or None in sides:
        return None
    return torch.tensor([value for side in sides for value in side.get("psnr", [])], dtype=torch.float64)


def expected(defense, head, view):
    """PSNR of all people under the attacker of a view, as `of_one`."""
    ways = ("adaptive", "plain") if view["attacker"] == "better" else (view["attacker"],)
    sides = [psnr for psnr in (of_one(results(defense, head, view), way) for way in ways) if psnr is not None]
    able = [psnr for psnr in sides if len(psnr)]
    return max(able, key=lambda psnr: psnr.quantile(0.5).item()) if able else (sides or [None])[0]


def agrees(text, psnr, view):
    if psnr is None:
        return text == "·"
    if not len(psnr):
        return text == "–"
    if view["show"] == "share":
        return abs(int(text) - 100 * (psnr >= int(view["from"])).double().mean()) <= 0.5
    value = psnr.max() if view["show"] == "worst" else psnr.quantile(0.5)
    return (text == "exact") == bool(value > 80) and (text == "exact" or abs(int(text) - value) <= 0.5 + 1e-9)


def says(text, value):
    return text == "exact" if value > 80 else abs(float(text.removesuffix(" dB")) - value) <= 0.05 + 1e-9


def rgb(colour):
    return f"rgb({', '.join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))})"


def check(page, view):
    """Compare every cell, its number and colours; return how many images are recognisable, of how many, and cells."""
    shown, known, of = page.evaluate(TABLE), 0, 0
    assert {head for _, head, *_ in shown} <= PEOPLE[view["people"]].keys()
    for defense, head, text, colours in shown:
        psnr = expected(defense, head, view)
        assert agrees(text, psnr, view), (defense, head, text, view)
        if psnr is not None and len(psnr):
            count = int((psnr >= int(view["from"])).sum())
            assert colours == [rgb(colour) for colour in shade(count / len(psnr))], (defense, head, count)
            known, of = known + count, of + len(psnr)
    return known, of, len(shown)


def choose(page, name, value):
    page.locator(f"{LIVE} select[name={name}]").select_option(value)


def slide(page, value):
    tell = "['input', 'change'].forEach(type => e.dispatchEvent(new Event(type, {bubbles: true})))"
    page.locator(f"{LIVE} input[type=range]").evaluate(f"(e, value) => {{ e.value = value; {tell}; }}", value)


def button(page, defense, head):
    return page.get_by_role("button", name=re.compile(rf": {re.escape(f'{defense}, {head}')}$"))


@pytest.fixture
def live(open_page):
    """Open the chapter with the explorer ready."""

    def open_one(address="#matrix", **options):
        page = open_page(CHAPTER + address, **options)
        page.set_default_timeout(PATIENCE)
        page.wait_for_selector(f"{LIVE}[data-ready]")
        return page

    return open_one


def test_it_stands_in_its_chapter():
    assert PAGES == [CHAPTER]


def test_the_switches_show_the_stored_numbers(live):
    page = live()
    assert check(page, START)[2] == 22 * 7
    for view in VIEWS:
        for name in ("people", "network", "rounds", "stage", "attacker", "show"):  # what is on offer depends on these
            choose(page, name, {**START, **view}[name])
        assert check(page, {**START, **view})[2] >= 7
    assert not page.problems


def test_the_slider_counts_and_colours_anew(live):
    page, counts = live(), []
    for edge in (8, 25, 47):
        slide(page, edge)
        known, of, _ = check(page, {**START, "from": str(edge)})
        words = page.locator(f"{LIVE} [role=status]").inner_text()
        assert words.startswith(f"From {edge} dB on, {known:,} of {of:,} images are recognisable")
        counts.append(known)
    assert counts == sorted(set(counts), reverse=True)


def test_a_cell_shows_its_people_and_what_came_back(live):
    page = live()
    fetched = []
    page.on("request", lambda request: fetched.append(request.url))
    defense, head = "Plain noise", "Division (MLP)"
    button(page, defense, head).click()
    section = page.locator(f"{LIVE} section")
    assert section.locator("h3").inner_text() == f"{defense} against {head}"
    every = results(defense, head, START)
    told = [value for one in every for value in one["adaptive"]["psnr"]]
    said = section.locator("li > b").all_text_contents()
    assert len(said) == len(told)
    assert all(says(text, value) for text, value in zip(said, told, strict=True))
    marks = section.locator("li > small").all_text_contents()
    assert [("named" in mark) for mark in marks] == [bool(bit) for one in every for bit in one["adaptive"]["named"]]
    pictures = section.locator("[role=img]").evaluate_all(
        "all => all.map(e => [e.style.backgroundImage, e.style.backgroundPosition, e.style.backgroundSize])"
    )
    sheet = SITE / "_static" / "gilib-matrix" / "digits-mlp-division-1.png"
    strips, side = list(names(sheet)), 48
    assert len(pictures) == 2 * 16
    for number, (image, position, size) in enumerate(pictures):
        left, top = (-float(part) / side for part in re.findall(r"-?[\d.]+", position))
        wanted = f"{every[0]['key']} adaptive" if number % 2 else "victims 16"
        assert sheet.name in image
        assert (left, strips[int(top)]) == (number // 2, wanted)
        assert size.endswith(f" {side * len(strips)}px")
    page.wait_for_load_state("networkidle")
    assert {address.rsplit("/", 1)[1] for address in fetched if address.endswith(".png")} == {sheet.name}
    choose(page, "attacker", "plain")
    plain = [value for one in every for value in one["plain"]["psnr"]]
    assert says(section.locator("li > b").first.inner_text(), plain[0])
    assert not page.problems


def test_a_cell_without_pictures_and_one_that_refuses_say_so(live):
    page = live("#matrix&people=3&cell=0.12")
    section = page.locator(f"{LIVE} section")
    assert section.locator("[role=img]").count() == 0
    assert "no picture is stored" in section.inner_text()
    page = live("#matrix&cell=17.1")  # PRECODE and the linear loss
    assert "does not apply" in page.locator(f"{LIVE} section").inner_text()


def test_the_address_keeps_the_view(live):
    page = live()
    for name, value in (("attacker", "plain"), ("stage", "20"), ("show", "worst"), ("network", "MLP")):
        choose(page, name, value)
    slide(page, 31)
    button(page, "Signs", "SPEAR (MLP)").click()
    address = "#" + page.url.partition("#")[2]
    said = {name: value for name, [value] in parse_qs(address.removeprefix("#matrix&")).items()}
    assert said.pop("cell") == f"{[one.name for one in DEFENSES].index('Signs')}.6"
    assert said == {"attacker": "plain", "stage": "20", "show": "worst", "network": "MLP", "from": "31"}
    again = live(address)
    assert again.evaluate(TABLE) == page.evaluate(TABLE)
    check(again, {**START, **said})
    assert again.locator(f"{LIVE} section h3").inner_text() == "Signs against SPEAR (MLP)"
    again.evaluate("location.hash = '#matrix&stage=7&people=99&from=many&cell=here&network=none&show=all'")
    again.wait_for_function(f"document.querySelector('{LIVE} [name=stage]').value === '0'")
    assert check(again, {**START, "from": again.locator(f"{LIVE} input[type=range]").input_value()})[2] == 22 * 7
    assert not again.locator(f"{LIVE} section").is_visible()
    assert not [*page.problems, *again.problems]


def test_it_is_worked_by_keyboard(live):
    page = live()
    page.locator(f"{LIVE} input[type=range]").focus()
    page.keyboard.press("Tab")
    where = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(where).endswith(": None, Inverting Gradients (LeNet)")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    assert page.evaluate(where).endswith(": InstaHide, Linear loss (LeNet)")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "InstaHide against SPEAR (MLP)"
    assert page.locator(f"{LIVE} [aria-current]").count() == 1
    page.keyboard.press("Escape")
    assert page.evaluate(where).endswith(": InstaHide, SPEAR (MLP)")
    assert not page.locator(f"{LIVE} section").is_visible()
    assert page.locator(f"{LIVE} table button[tabindex='0']").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(live, scheme):
    page = live("#matrix&cell=14.5", scheme=scheme)
    page.add_script_tag(path=str(AXE))
    page.add_style_tag(content="*, *::before, *::after { transition: none !important; animation: none !important; }")
    assert page.evaluate(AUDIT) == []


def test_it_fits_a_phone(live):
    page = live("#matrix&cell=0.5", viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(f"{LIVE} .gilib-matrix-box").evaluate("e => e.scrollWidth <= e.clientWidth")
    cells = page.locator(f"{LIVE} table button")
    size = "all => Math.min(...all.map(e => parseFloat(getComputedStyle(e).fontSize)))"
    assert cells.evaluate_all(size) >= 11
    box = "all => all.map(e => e.getBoundingClientRect()).map(b => Math.min(b.width, b.height))"
    assert min(cells.evaluate_all(box)) >= 24
    assert cells.evaluate_all("all => all.every(e => e.scrollWidth <= e.clientWidth)")
    assert len(set(cells.evaluate_all("all => all.map(e => Math.round(e.getBoundingClientRect().height))"))) == 1
    boxes = page.locator("#fig-matrix-trained .table-box")
    assert boxes.evaluate("e => e.scrollWidth <= e.clientWidth + 1")


def test_nothing_of_it_is_fetched_before_the_reader_comes_near(open_page):
    page = open_page(CHAPTER)
    loaded = "performance.getEntriesByType('resource').map(e => e.name).filter(name => name.includes('gilib-matrix/'))"
    assert page.evaluate(loaded) == []
    page.locator("#fig-matrix-untrained").scroll_into_view_if_needed()
    page.wait_for_selector(f"{LIVE}[data-ready]", timeout=PATIENCE)
    assert [name.partition("gilib-matrix/")[2].partition("?")[0] for name in page.evaluate(loaded)] == ["data.js"]
    assert not page.problems


def test_it_works_from_a_folder(browser):
    context = browser.new_context()
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((SITE / CHAPTER).as_uri() + "#matrix&cell=0.5")
    page.wait_for_selector(f"{LIVE}[data-ready]", timeout=PATIENCE)
    assert check(page, START)[2] == 22 * 7
    assert page.locator(f"{LIVE} section [role=img]").count() == 2 * 16
    context.close()
    assert not problems


def test_without_scripts_and_on_paper_a_table_stands_in_its_place(open_page):
    page = open_page(CHAPTER, scripts=False)
    table = page.locator("#fig-matrix-untrained table.gilib-heat")
    assert table.is_visible()
    assert not page.locator(LIVE).is_visible()
    assert page.locator(".gilib-live-instead").first.is_visible()
    assert table.locator("tbody th[scope=row]").all_text_contents() == [one.name for one in DEFENSES]
    heads = table.locator("thead th[scope=col]").all_text_contents()[1:]
    texts = table.locator("td").all_text_contents()
    for place, text in enumerate(texts):
        defense, head = DEFENSES[place // len(heads)].name, heads[place % len(heads)]
        assert agrees(text, expected(defense, head, START), START)
    page = open_page(CHAPTER + "#matrix")
    page.wait_for_selector(f"{LIVE}[data-ready]", timeout=PATIENCE)
    assert not page.locator("#fig-matrix-untrained .gilib-live-instead").is_visible()
    page.emulate_media(media="print")
    assert not page.locator(LIVE).is_visible()
    assert page.locator("#fig-matrix-untrained .gilib-live-instead table").is_visible()
