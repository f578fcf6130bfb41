// One division: the reader draws a digit, and each neuron's gradient is divided before their eyes.
"use strict";

gilibLive.define("division", function ({ dense, picture }) {
  const [SIDE, NEURONS, EXACT] = [16, 64, 1e-6];
  const INK = 0.95;

  /** The digits of the book, from the one picture that holds them side by side. */
  async function digitsOf(image) {
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: SIDE });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return JSON.parse(image.dataset.labels).map((label, place) => {
      const { data } = context.getImageData(place * SIDE, 0, SIDE, SIDE);
      return { label, pixels: Float64Array.from({ length: SIDE * SIDE }, (_, k) => data[4 * k] / 255) };
    });
  }

  /** Paint a soft round brush at (x, y), white on black. */
  function brush(pixels, x, y) {
    for (let k = 0; k < pixels.length; k++) {
      const cover = 1.6 - Math.hypot((k % SIDE) + 0.5 - x, Math.floor(k / SIDE) + 0.5 - y);
      pixels[k] = Math.max(pixels[k], INK * Math.min(1, Math.max(0, cover)));
    }
  }

  /** The largest deviation of two pictures. */
  const deviation = (a, b) => a.reduce((most, value, k) => Math.max(most, Math.abs(value - b[k])), 0);

  /** Which image of the batch a quotient is, to a millionth; -1 for a mixture. */
  const ownerOf = (quotient, images) => images.findIndex((image) => deviation(image, quotient) < EXACT);

  function showTile(canvas, quotient, owner) {
    canvas.className = ["gilib-live-tile", quotient ? "" : "gilib-live-dead", owner === 0 ? "gilib-live-mine" : "",
      owner > 0 ? "gilib-live-other" : ""].join(" ");
    if (quotient) picture.show(canvas, quotient);
    else canvas.getContext("2d").clearRect(0, 0, SIDE, SIDE);
  }

  const many = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;

  /** What there is to see, in words. */
  function words(owners, quotients, images) {
    const there = quotients.filter(Boolean);
    if (!there.length) return "No neuron has a gradient: there is nothing to divide.";
    const mine = owners.filter((owner) => owner === 0).length;
    const others = new Set(owners.filter((owner) => owner > 0)).size;
    const best = Math.min(...there.map((quotient) => deviation(quotient, images[0])));
    const off = best < 1e-15 ? "less than 10⁻¹⁵" : best.toPrecision(2);
    const first = `${mine} of ${many(there.length, "quotient")} ${mine === 1 ? "is" : "are"} your digit to a millionth; the best is off by ${off}.`;
    return others ? `${first} ${many(others, "other image")} of the batch ${others === 1 ? "is" : "are"} out as well.` : first;
  }

  async function start(root) {
    const pad = root.querySelector(".gilib-live-own canvas");
    const tiles = [...root.querySelectorAll(".gilib-live-tiles canvas")];
    const [size, noise] = ["size", "noise"].map((name) => root.querySelector(`[name=gilib-live-${name}]`));
    const digits = await digitsOf(root.querySelector(".gilib-live-digits"));
    const network = dense.mlp(SIDE * SIDE, NEURONS);
    let mine = { label: digits[3].label, pixels: digits[3].pixels.slice() };
    let shown = 3;

    function update() {
      const batch = [mine, ...digits.filter((_, place) => place !== shown)].slice(0, Number(size.value));
      const images = batch.map((one) => one.pixels);
      const sent = dense.noisy(dense.gradient(network, images, batch.map((one) => one.label)), Number(noise.value), 1);
      const quotients = dense.quotients(sent);
      const owners = quotients.map((quotient) => (quotient ? ownerOf(quotient, images) : -1));
      picture.show(pad, mine.pixels);
      quotients.forEach((quotient, i) => showTile(tiles[i], quotient, owners[i]));
      root.querySelector("output").textContent = size.value;
      const text = words(owners, quotients, images);
      root.querySelector("[role=status]").textContent = text;
      root.querySelector(".gilib-live-tiles").setAttribute("aria-label", `${NEURONS} small pictures. ${text}`);
    }

    function take(place) {
      shown = place;
      mine = { label: digits[place].label, pixels: digits[place].pixels.slice() };
      update();
    }

    picture.pad(
      pad,
      (x, y) => { brush(mine.pixels, x, y); picture.show(pad, mine.pixels); },
      (place) => { update(); if (place) picture.cursor(pad, place); },
    );
    [size, noise].forEach((input) => input.addEventListener("input", update));
    root.querySelector("[data-do=clear]").addEventListener("click", () => { mine.pixels.fill(0); update(); pad.focus(); });
    root.querySelector("[data-do=another]").addEventListener("click", () => take((shown + 1) % digits.length));
    update();
    root.dataset.ready = NEURONS;
  }

  document.querySelectorAll("[data-live=division]").forEach(start);
  return { start };
});
