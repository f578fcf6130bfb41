"""The live leak: it finds photographs, makes no request, obeys the keyboard, and agrees with the library."""

from __future__ import annotations

import pytest
import torch
from built_site import PHONE, ROOT, pages_with, stroke
from PIL import Image

from gilib import data, iteration, models
from gilib.data import Batch
from gilib.defenses.gradient import pruning
from gilib.federated import Client

LIVE = '.gilib-live[data-live="leak"]'
PAGES = pages_with('data-live="leak"')
LANDING = "book/index.html"
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE = 300_000  # milliseconds; a quiet machine needs a few seconds
AUDIT = """async () => (await axe.run(document.querySelector('.gilib-live'), {resultTypes: ['violations']})).violations
  .map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).slice(0, 5).join(' | '))"""
BEST = f"""(goal) => parseFloat(document.querySelector('{LIVE} .gilib-live-server output').textContent) >= goal"""


def listen(page):
    """A list of what the page asks for from now on, but for its own figures, which load when they are scrolled to."""
    own = set(page.evaluate("[...document.images].map(image => image.src)"))
    asked = []
    page.on("request", lambda request: None if request.url in own else asked.append(request.url))
    return asked


@pytest.fixture
def live(open_page):
    """Open a page with the live leak, ready."""

    def open_one(path=LANDING, **options):
        page = open_page(path, **options)
        page.set_default_timeout(PATIENCE)
        page.wait_for_selector(f"{LIVE}[data-ready]")
        page.wait_for_function("document.querySelector('.gilib-live-client canvas').ariaLabel.length > 25")
        return page

    return open_one


def test_it_stands_on_the_landing_page_and_in_its_chapter():
    assert PAGES == [LANDING, "chapters/foundations/first_leak.html"]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("photograph", ["a cat", "a rocket"])
def test_a_photograph_comes_back_without_a_request(live, path, photograph):
    page = live(path)
    page.locator(f'{LIVE} label:has(img[alt="{photograph}"])').click()
    asked = listen(page)
    page.locator(f"{LIVE} [data-do=go]").click()
    page.wait_for_function(BEST, arg=20)
    page.locator(f"{LIVE} [data-do=stop]").click()
    assert not [address for address in asked if not address.startswith("blob:")]
    assert page.locator(f"{LIVE} .gilib-live-requests").inner_text() == "0"
    assert not page.problems


def test_the_counter_of_requests_counts(live):
    page = live()
    page.locator(f'{LIVE} label:has(img[alt="a rocket"])').click()
    page.evaluate("fetch('../_static/favicon.svg?counted').then(answer => answer.text())")
    page.wait_for_function("document.querySelector('.gilib-live-requests').textContent.startsWith('1 ')")


def test_it_is_worked_by_keyboard_and_says_what_happens(live):
    page = live()
    page.locator(f"{LIVE} input[name=gilib-live-photo]:checked").focus()
    page.keyboard.press("ArrowRight")
    label = f"document.querySelector('{LIVE} .gilib-live-client canvas').ariaLabel"
    page.wait_for_function(f"{label}.endsWith('a cup of coffee')")
    go, stop = (page.locator(f"{LIVE} [data-do={name}]") for name in ("go", "stop"))
    status = page.locator(f"{LIVE} [role=status]")
    go.focus()
    page.keyboard.press("Enter")
    assert stop.evaluate("e => e === document.activeElement")
    assert "gradient is sent" in status.inner_text()
    page.wait_for_function(BEST, arg=5)
    page.keyboard.press("Space")
    assert go.evaluate("e => e === document.activeElement")
    assert status.inner_text().startswith("Stopped.")
    assert go.inner_text() == "Another start"
    assert not stop.is_visible()
    before = page.locator(f"{LIVE} .gilib-live-server output").inner_text()
    page.wait_for_timeout(1000)
    assert page.locator(f"{LIVE} .gilib-live-server output").inner_text() == before


def test_the_reader_draws_by_keyboard_and_by_pointer(live):
    page = live()
    canvas = page.locator(f"{LIVE} .gilib-live-client canvas")
    dark = "e => [...e.getContext('2d').getImageData(0, 0, 32, 32).data].filter((v, k) => k % 4 == 0 && v < 90).length"
    page.get_by_role("button", name="Draw").press("Enter")
    assert canvas.evaluate("e => e === document.activeElement")
    assert canvas.evaluate(dark) == 0
    for key in ("Space", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    by_keys = canvas.evaluate(dark)
    assert by_keys > 3
    stroke(page, canvas, start=20, end=120)
    assert canvas.evaluate(dark) > by_keys + 10
    page.locator(f"{LIVE} [data-do=go]").click()
    page.wait_for_function(BEST, arg=5)
    assert not page.problems


def test_a_file_of_ones_own_and_one_that_is_no_picture(live, tmp_path):
    page = live()
    chooser = page.locator(f"{LIVE} input[type=file]")
    picture = tmp_path / "own.png"
    Image.new("RGB", (64, 40), (255, 0, 0)).save(picture)
    asked = listen(page)
    chooser.set_input_files(picture)
    page.wait_for_function("document.querySelector('.gilib-live-client canvas').ariaLabel.endsWith('your picture')")
    corner = "e => [...e.getContext('2d').getImageData(0, 0, 1, 1).data]"
    assert page.locator(f"{LIVE} .gilib-live-client canvas").evaluate(corner) == [255, 0, 0, 255]
    wrong = tmp_path / "own.txt"
    wrong.write_text("no picture")
    chooser.set_input_files(wrong)
    page.wait_for_function("document.querySelector('.gilib-live-status').textContent.includes('cannot read that file')")
    assert not [address for address in asked if not address.startswith(("blob:", "data:"))]


CAMERA = """() => { navigator.mediaDevices.getUserMedia = async () => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [64, 64];
  const context = canvas.getContext('2d');
  setInterval(() => { context.fillStyle = '#00ff00'; context.fillRect(0, 0, 64, 64); }, 50);
  return window.camera = canvas.captureStream(20);
}; }"""


def test_the_camera_is_on_only_until_the_photograph_is_taken(live):
    page = live()
    page.evaluate(CAMERA)
    page.get_by_role("button", name="Camera").click()
    take = page.get_by_role("button", name="Take the photograph")
    take.wait_for()
    page.wait_for_timeout(500)
    take.click()
    assert page.evaluate("window.camera.getTracks().every(track => track.readyState === 'ended')")
    red, green, blue, _ = page.locator(f"{LIVE} .gilib-live-client canvas").evaluate(
        "e => [...e.getContext('2d').getImageData(9, 9, 1, 1).data]"
    )
    assert green > 200 > 60 > max(red, blue)
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = async () => { throw new Error('none here'); }; }")
    page.get_by_role("button", name="Camera").click()
    page.wait_for_function("document.querySelector('.gilib-live-status').textContent.includes('none here')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(live, scheme):
    page = live(scheme=scheme)
    page.add_script_tag(path=str(AXE))
    page.add_style_tag(content="*, *::before, *::after { transition: none !important; animation: none !important; }")
    page.locator(f"{LIVE} summary").click()
    page.get_by_role("button", name="Draw").click()
    page.locator(f"{LIVE} [data-do=go]").click()
    assert page.evaluate(AUDIT) == []


def test_a_phone_shows_all_three_beside_each_other(live):
    page = live(viewport=PHONE)
    page.locator(f"{LIVE} summary").click()
    boxes = [page.locator(f"{LIVE} .gilib-live-{name} canvas").bounding_box() for name in ("client", "sent", "server")]
    assert len({box["y"] for box in boxes}) == 1
    assert all(box["width"] > 90 for box in boxes)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_reduced_motion_shows_fewer_pictures(live):
    page = live()
    page.emulate_media(reduced_motion="reduce")
    page.evaluate(
        "new MutationObserver(() => { window.changes = (window.changes || 0) + 1; })"
        ".observe(document.querySelector('.gilib-live-server output'), {childList: true})"
    )
    page.locator(f"{LIVE} [data-do=go]").click()
    page.wait_for_function(BEST, arg=5)
    page.wait_for_timeout(3000)
    assert 1 <= page.evaluate("window.changes") <= 4


@pytest.mark.parametrize("path", PAGES)
def test_without_scripts_and_in_print_words_stand_in_its_place(open_page, path):
    page = open_page(path, scripts=False)
    assert not page.locator(LIVE).is_visible()
    assert page.locator(".gilib-live-instead").is_visible()
    page = open_page(path)
    assert page.locator(LIVE).is_visible()
    assert not page.locator(".gilib-live-instead").is_visible()
    page.emulate_media(media="print")
    assert not page.locator(LIVE).is_visible()
    assert page.locator(".gilib-live-instead").is_visible()


# --- the same numbers as the library ---------------------------------------------------------------------------------

TRACE = """([photograph, activation, count]) => {
  const {lenet, lbfgs, picture, server} = gilibLive;
  const image = picture.read(document.querySelectorAll('.gilib-live-photos img')[photograph], lenet.SIDE);
  const network = {weights: lenet.weights(), activation};
  const sent = lenet.gradient(network, image, photograph);
  const states = [];
  for (const state of lbfgs.descend(x => lenet.distance(network, sent, null, x, photograph), server.start(1))) {
    states.push({point: [...state.point], value: state.value, slope: [...state.slope]});
    if (states.length >= count) break;
  }
  return {image: [...image], sent: [...sent], label: server.readLabel(sent), states};
}"""
PRUNED = """([photograph, ratio]) => {
  const {client, lenet, picture} = gilibLive;
  const image = picture.read(document.querySelectorAll('.gilib-live-photos img')[photograph], lenet.SIDE);
  return [...client.message(image, photograph, {activation: 'sigmoid', noise: 0, pruned: ratio, seed: 1}).sent];
}"""


def relative(found, wanted):
    """The largest deviation, beside the largest entry."""
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def flat(gradients):
    return torch.cat([value.flatten() for value in gradients.values()])


def victim_of(photograph):
    """The photograph as the page reads it: bytes, divided in double precision."""
    batch = data.load("photos").batch([photograph])
    return Batch((255 * batch.images.double()).round() / 255, batch.labels)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_gradient_and_objective_agree_with_the_library(live, activation):
    trace = live().evaluate(TRACE, [3, activation, 12])
    victim = victim_of(3)
    assert trace["label"] == victim.labels.item() == 3
    assert trace["image"] == victim.images.flatten().tolist()
    model = models.lenet(classes=10, activation=activation).double()
    update = Client(model).update(victim)
    sent = torch.tensor(trace["sent"], dtype=torch.float64)
    assert relative(sent, flat(update.gradients)) < 1e-6
    matching = iteration.matching.squared_l2()
    values = []
    for state in trace["states"]:
        guess = torch.tensor(state["point"], dtype=torch.float64).reshape(1, 3, 32, 32).requires_grad_()
        logits = model(guess)
        loss = torch.nn.functional.cross_entropy(logits, victim.labels)
        names = list(update.gradients)
        slopes = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        value = matching(dict(zip(names, slopes, strict=True)), update.gradients)
        (slope,) = torch.autograd.grad(value, guess)
        assert state["value"] == pytest.approx(value.item(), rel=1e-6)
        found = torch.tensor(state["slope"], dtype=torch.float64).reshape_as(slope)
        assert relative(found, slope) < 1e-6
        values.append(state["value"])
    assert values[-1] < values[0]


@pytest.mark.parametrize("ratio", [0.5, 0.99])
def test_pruning_agrees_with_the_library(live, ratio):
    sent = torch.tensor(live().evaluate(PRUNED, [1, ratio]), dtype=torch.float64)
    wanted = Client(models.lenet(classes=10).double(), defenses=[pruning(ratio)]).update(victim_of(1))
    assert relative(sent, flat(wanted.gradients)) < 1e-6


def test_the_thread_gets_the_gradient_and_nothing_of_the_photograph(live):
    page = live()
    page.evaluate("""() => {
      const post = Worker.prototype.postMessage;
      Worker.prototype.postMessage = function (told) { window.told = told; return post.call(this, told); };
    }""")
    page.locator(f"{LIVE} [data-do=go]").click()
    told = page.evaluate("[Object.keys(told.message), told.message.sent.length, told.message.seen, told.settings]")
    assert told[:3] == [["sent", "seen", "activation"], 15826, None]
    assert set(told[3]) == {"evaluations", "agreement", "seed"}
