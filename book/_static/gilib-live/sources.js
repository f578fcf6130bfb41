// Where the client's picture comes from: the book, the reader's hand, a camera or a file. It stays in this page.
"use strict";

gilibLive.define("sources", function ({ picture }) {
  const PAPER = 0.92;

  /** Paint a soft round brush of this colour [red, green, blue] at (x, y) into an image (3, side, side). */
  function brush(image, side, colour, x, y) {
    const size = side * side;
    for (let k = 0; k < size; k++) {
      const distance = Math.hypot((k % side) + 0.5 - x, Math.floor(k / side) + 0.5 - y);
      const cover = Math.min(1, Math.max(0, 2.2 - distance));
      for (let c = 0; c < 3; c++) image[c * size + k] += cover * (colour[c] - image[c * size + k]);
    }
  }

  /** A camera: `open` shows it in a <video>, `take` returns a picture, `close` switches it off. */
  function camera(video) {
    let stream = null;
    return {
      async open() {
        stream = await navigator.mediaDevices.getUserMedia({ video: { width: 480, height: 480 }, audio: false });
        video.srcObject = stream;
        await video.play();
        video.hidden = false;
      },
      take: (side) => picture.read(video, side),
      close() {
        stream?.getTracks().forEach((track) => track.stop());
        stream = video.srcObject = null;
        video.hidden = true;
      },
    };
  }

  /**
   * Connect the controls that choose a picture.
   * @param {HTMLElement} root the experiment
   * @param {function(Float64Array, string, number)} choose gets the picture, what it is, and its class
   * @param {function(string)} say tells the reader what happened
   */
  function connect(root, choose, say) {
    const canvas = root.querySelector(".gilib-live-client canvas");
    const [video, tools] = [root.querySelector("video"), root.querySelector(".gilib-live-colours")];
    const [file, take] = [root.querySelector("input[type=file]"), root.querySelector("[data-do=take]")];
    const photos = [...root.querySelectorAll("input[name=gilib-live-photo]")];
    const button = (name) => root.querySelector(`[data-do=${name}]`);
    const view = camera(video);
    let drawing = null;

    /** Leave drawing and camera before another source begins. */
    function leave(photograph) {
      view.close();
      take.hidden = tools.hidden = true;
      drawing = null;
      canvas.removeAttribute("tabindex");
      canvas.setAttribute("role", "img");
      if (!photograph) photos.forEach((input) => { input.checked = false; });
    }

    async function photograph(input, first = false) {
      leave(true);
      const image = input.parentElement.querySelector("img");
      await image.decode();
      choose(picture.read(image, canvas.width), image.alt, Number(input.value), first);
    }

    function draw() {
      leave(false);
      tools.hidden = false;
      drawing = new Float64Array(3 * canvas.width ** 2).fill(PAPER);
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "application");
      choose(drawing, "your drawing; the arrow keys move the brush, with shift or the space bar it paints", 0);
      canvas.focus({ preventScroll: true });
      say("Draw on the client's picture, by hand or with the arrow keys; the space bar paints.");
    }

    async function look() {
      leave(false);
      try {
        await view.open();
        take.hidden = false;
        take.focus();
        say("The camera is on. Nothing is recorded until you take the photograph.");
      } catch (error) {
        view.close();
        say(`No camera: the browser says ${error.message || error.name}.`);
      }
    }

    async function open() {
      leave(false);
      try {
        choose(picture.read(await createImageBitmap(file.files[0]), canvas.width), "your picture", 0);
      } catch {
        say("This browser cannot read that file as a picture. Choose a JPEG, a PNG or a WebP.");
      }
      file.value = "";
    }

    photos.forEach((input) => input.addEventListener("change", () => photograph(input)));
    button("draw").addEventListener("click", draw);
    button("camera").addEventListener("click", look);
    button("camera").hidden = !navigator.mediaDevices?.getUserMedia;
    button("file").addEventListener("click", () => file.click());
    file.addEventListener("change", open);
    take.addEventListener("click", () => {
      const image = view.take(canvas.width);
      leave(false);
      choose(image, "your photograph", 0);
    });
    picture.pad(
      canvas,
      (x, y) => {
        if (!drawing) return;
        const colour = tools.querySelector("input:checked").value.split(" ").map(Number);
        brush(drawing, canvas.width, colour, x, y);
        picture.show(canvas, drawing);
      },
      (place) => {
        if (!drawing) return;
        choose(drawing, "your drawing; the arrow keys move the brush, with shift or the space bar it paints", 0);
        if (place) picture.cursor(canvas, place);
      },
    );
    photograph(photos.find((input) => input.checked) || photos[0], true);
  }

  return { connect };
});
