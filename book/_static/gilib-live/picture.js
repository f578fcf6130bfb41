// Pictures: arrays (channels, side, side) in [0, 1] on a canvas and back, from a file, a camera, or drawn by hand.
"use strict";

gilibLive.define("picture", function () {
  const byte = (value) => Math.round(255 * Math.min(1, Math.max(0, value)));

  /** Show an array on a canvas of its side; one channel is grey. */
  function show(canvas, image) {
    const [side, size] = [canvas.width, canvas.width * canvas.height];
    const channels = image.length / size;
    const data = new ImageData(side, canvas.height);
    for (let k = 0; k < size; k++) {
      for (let c = 0; c < 3; c++) data.data[4 * k + c] = byte(image[(c % channels) * size + k]);
      data.data[4 * k + 3] = 255;
    }
    canvas.getContext("2d").putImageData(data, 0, 0);
  }

  /** The middle square of an <img>, a <video> or a bitmap, as an array (3, side, side). */
  function read(source, side) {
    const width = source.videoWidth || source.naturalWidth || source.width;
    const height = source.videoHeight || source.naturalHeight || source.height;
    const square = Math.min(width, height);
    const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(source, (width - square) / 2, (height - square) / 2, square, square, 0, 0, side, side);
    const { data } = context.getImageData(0, 0, side, side);
    const size = side * side;
    return Float64Array.from({ length: 3 * size }, (_, k) => data[4 * (k % size) + Math.floor(k / size)] / 255);
  }

  /** Mark the place of the brush, until the picture is shown again. */
  function cursor(canvas, { x, y }) {
    const context = canvas.getContext("2d");
    context.fillStyle = "#d81b60";
    context.fillRect(Math.floor(x), Math.floor(y), 1, 1);
  }

  /** Peak signal-to-noise ratio in dB, both in [0, 1]; the guess is cut to that range first. */
  function psnr(guess, truth) {
    let sum = 0;
    truth.forEach((value, k) => { sum += (Math.min(1, Math.max(0, guess[k])) - value) ** 2; });
    return -10 * Math.log10(sum / truth.length);
  }

  /**
   * Let the reader draw on a canvas with a pointer, or with the arrow keys and the space bar.
   * @param {HTMLCanvasElement} canvas must be focusable
   * @param {function(number, number)} paint gets the place of the brush in pixels of the canvas
   * @param {function()} changed is called after a stroke, and after each step by keyboard
   */
  function pad(canvas, paint, changed) {
    const place = { x: canvas.width / 2, y: canvas.height / 2 };
    let drawing = false;
    const move = (event) => {
      const box = canvas.getBoundingClientRect();
      place.x = ((event.clientX - box.left) / box.width) * canvas.width;
      place.y = ((event.clientY - box.top) / box.height) * canvas.height;
      paint(place.x, place.y);
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!canvas.hasAttribute("tabindex")) return;
      drawing = true;
      canvas.setPointerCapture(event.pointerId);
      move(event);
      event.preventDefault();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (drawing) (event.getCoalescedEvents?.() || [event]).forEach(move);
    });
    const end = () => {
      if (drawing) changed();
      drawing = false;
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0], Enter: [0, 0] };
    canvas.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      if (!step) return;
      event.preventDefault();
      place.x = Math.min(canvas.width - 0.5, Math.max(0.5, place.x + step[0]));
      place.y = Math.min(canvas.height - 0.5, Math.max(0.5, place.y + step[1]));
      if (event.shiftKey || !(step[0] || step[1])) paint(place.x, place.y);
      changed(place);
    });
  }

  return { show, read, cursor, psnr, pad };
});
