"""One division: exact for one image, a mixture for several, and worked by hand and by keyboard."""

from __future__ import annotations

import re

import pytest
import torch
from built_site import PHONE, ROOT, pages_with, stroke

from gilib import data, models
from gilib.data import Batch
from gilib.federated import Client

LIVE = '.gilib-live[data-live="division"]'
PAGES = pages_with('data-live="division"')
CHAPTER = "chapters/recursion/dense.html"
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
AUDIT = """async () => (await axe.run(document.querySelector('.gilib-live'), {resultTypes: ['violations']})).violations
  .map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).slice(0, 5).join(' | '))"""
PATIENCE = 120_000
DIGITS = """async () => {
  const image = document.querySelector('.gilib-live-digits');
  await image.decode();
  const canvas = Object.assign(document.createElement('canvas'), {width: 512, height: 16});
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  window.digits = JSON.parse(image.dataset.labels).map((label, place) => {
    const {data} = context.getImageData(16 * place, 0, 16, 16);
    return {label, pixels: Float64Array.from({length: 256}, (_, k) => data[4 * k] / 255)};
  });
}"""
DIVIDE = """([places, noise]) => {
  const {dense} = gilibLive;
  const batch = places.map(place => window.digits[place]);
  const network = dense.mlp(256, 64);
  const clean = dense.gradient(network, batch.map(one => one.pixels), batch.map(one => one.label));
  const sent = dense.noisy(clean, noise, 1);
  return {images: batch.map(one => [...one.pixels]), weights: [...sent.weights], bias: [...sent.bias],
          quotients: dense.quotients(sent).map(one => one && [...one])};
}"""


@pytest.fixture
def live(open_page):
    """Open the chapter with the division ready."""

    def open_one(**options):
        page = open_page(CHAPTER, **options)
        page.set_default_timeout(PATIENCE)
        page.wait_for_selector(f"{LIVE}[data-ready]")
        return page

    return open_one


@pytest.fixture
def divide(live):
    """What the modules of the page compute, as tensors."""
    page = live()
    page.evaluate(DIGITS)

    def of(places, noise=0):
        found = page.evaluate(DIVIDE, [list(places), noise])
        numbers = {name: torch.tensor(found[name], dtype=torch.float64) for name in ("images", "weights", "bias")}
        there = [torch.tensor(one, dtype=torch.float64) for one in found["quotients"] if one is not None]
        return numbers, there

    return of


def test_it_stands_in_its_chapter():
    assert PAGES == [CHAPTER]


def test_for_one_image_every_quotient_is_the_image(divide):
    for place in (0, 3, 17):
        numbers, quotients = divide([place])
        assert len(quotients) > 10
        assert max((one - numbers["images"][0]).abs().max() for one in quotients) < 1e-6


def test_a_batch_mixes_and_noise_spoils(divide):
    numbers, quotients = divide(range(8))
    off = torch.stack([(one - numbers["images"]).abs().amax(dim=1).min() for one in quotients])
    assert off.max() > 0.1
    assert len(quotients) == int((numbers["bias"] != 0).sum())
    errors = []
    for noise in (1e-4, 1e-2):
        numbers, quotients = divide([3], noise)
        assert len(quotients) == 64
        errors.append(min((one - numbers["images"][0]).abs().max().item() for one in quotients))
    assert 1e-6 < errors[0] < errors[1] / 10


@pytest.mark.parametrize("size", [1, 5])
def test_the_gradient_agrees_with_the_library(divide, size):
    numbers, _ = divide(range(size))
    digits = data.load("digits", size=16).batch(range(size))
    images = (255 * digits.images.double()).round() / 255
    assert torch.equal(images.flatten(1), numbers["images"])
    model = models.mlp(channels=1, size=16, hidden=(64,)).double()
    gradients = Client(model).update(Batch(images, digits.labels)).gradients
    for name, wanted in (("weights", gradients["linear1.weight"]), ("bias", gradients["linear1.bias"])):
        assert (numbers[name] - wanted.flatten()).abs().max() < 1e-6 * wanted.abs().max()


def words(page):
    return page.locator(f"{LIVE} [role=status]").inner_text()


def test_the_page_says_what_the_division_gives(live):
    page = live()
    count, of = map(int, re.match(r"(\d+) of (\d+) quotients are your digit", words(page)).groups())
    assert count == of > 10
    assert page.locator(f"{LIVE} .gilib-live-mine").count() == count
    assert page.locator(f"{LIVE} .gilib-live-dead").count() == 64 - of
    slider = page.locator(f"{LIVE} input[type=range]")
    slider.focus()
    page.keyboard.press("End")
    assert slider.input_value() == "32"
    mixed, of = map(int, re.match(r"(\d+) of (\d+) quotients", words(page)).groups())
    assert mixed < count <= of
    assert page.locator(f"{LIVE} .gilib-live-mine").count() == mixed
    page.keyboard.press("Home")
    page.locator(f"{LIVE} select").select_option("1e-2")
    assert re.match(r"0 of 64 quotients", words(page))
    assert not page.problems


def test_the_reader_draws_and_the_quotients_follow(live):
    page = live()
    own = set(page.evaluate("[...document.images].map(image => image.src)"))  # they load when they are scrolled to
    asked = []
    page.on("request", lambda request: None if request.url in own else asked.append(request.url))
    page.get_by_role("button", name="Clear").click()
    assert "off by less than" in words(page)  # an empty picture comes back as well
    pad = page.locator(f"{LIVE} .gilib-live-own canvas")
    lit = "e => [...e.getContext('2d').getImageData(0, 0, 16, 16).data].filter((v, k) => k % 4 == 0 && v > 90).length"
    assert pad.evaluate("e => e === document.activeElement")
    for key in ("Space", "Shift+ArrowDown", "Shift+ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    by_keys = pad.evaluate(lit)
    assert by_keys >= 6
    stroke(page, pad, start=15, end=90)
    assert pad.evaluate(lit) > by_keys + 5
    same = f"""() => {{
      const pixels = e => e.getContext('2d').getImageData(0, 0, 16, 16).data.join();
      const own = pixels(document.querySelector('{LIVE} .gilib-live-own canvas'));
      return [...document.querySelectorAll('{LIVE} .gilib-live-mine')].filter(e => pixels(e) === own).length;
    }}"""
    assert page.evaluate(same) == page.locator(f"{LIVE} .gilib-live-mine").count() > 10
    assert not asked


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(live, scheme):
    page = live(scheme=scheme)
    page.add_script_tag(path=str(AXE))
    page.add_style_tag(content="*, *::before, *::after { transition: none !important; animation: none !important; }")
    assert page.evaluate(AUDIT) == []


def test_it_fits_a_phone(live):
    page = live(viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tile = page.locator(f"{LIVE} .gilib-live-tiles canvas").first.bounding_box()
    assert tile["width"] >= 30


def test_without_scripts_and_in_print_words_stand_in_its_place(open_page):
    page = open_page(CHAPTER, scripts=False)
    assert not page.locator(LIVE).is_visible()
    assert page.locator(".gilib-live-instead").is_visible()
    page = open_page(CHAPTER)
    page.emulate_media(media="print")
    assert not page.locator(LIVE).is_visible()
    assert page.locator(".gilib-live-instead").is_visible()
