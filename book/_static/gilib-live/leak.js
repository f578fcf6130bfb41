// The live leak: a client sends the gradient of a photograph, and a server searches for it before the reader's eyes.
"use strict";

gilibLive.define("leak", function ({ client, curve, lenet, picture, server, sources, worker }) {
  const SETTINGS = { evaluations: 1500, agreement: 1e-8 };
  const RECOVERED = 25; // dB, the line of the book
  const MARKS = [20, RECOVERED, 30]; // said aloud when the guess passes them
  const ENDS = {
    agrees: "The gradients agree to four digits and more, so the server stops.",
    budget: "The server gives up after this many guesses.",
    stuck: "The server finds no better guess near this one.",
    stopped: "Stopped.",
  };

  /** Draw the shared numbers as a square of pixels: orange is positive, blue negative, each tensor at its own scale. */
  function showNumbers(canvas, sent) {
    const size = canvas.width ** 2;
    const image = new Float64Array(3 * size).fill(0.5);
    let k = 0;
    for (const tensor of lenet.tensors(sent)) {
      const largest = tensor.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-30);
      for (const value of tensor) {
        const strength = (Math.sign(value) * Math.sqrt(Math.abs(value) / largest)) / 2;
        image[k] += strength;
        image[size + k] += 0.2 * strength;
        image[2 * size + k++] -= strength;
      }
    }
    picture.show(canvas, image);
  }

  /**
   * Show what the page asks for over the network, from each call of what this returns. The figures that stood in the page
   * before are left out: they load when the reader scrolls to them, whatever happens here.
   */
  function requests(show) {
    let [own, seen] = [new Set(), []];
    const observer = new PerformanceObserver((list) => {
      const names = list.getEntries().map((entry) => entry.name);
      seen.push(...names.filter((name) => name.startsWith("http") && !own.has(name)));
      show(seen.map((name) => name.split("/").pop()));
    });
    return () => {
      [own, seen] = [new Set([...document.images].map((image) => image.src)), []];
      observer.disconnect();
      observer.observe({ entryTypes: ["resource"] });
      show([]);
    };
  }

  function start(root) {
    const part = (name) => root.querySelector(`.gilib-live-${name}`);
    const canvas = (name) => part(name).querySelector("canvas");
    const [go, stop] = [root.querySelector("[data-do=go]"), root.querySelector("[data-do=stop]")];
    const calm = matchMedia("(prefers-reduced-motion: reduce)");
    const distances = curve.chart(part("distance"), { title: "Distance between gradients", log: true, low: 0, high: 2 });
    const likeness = curve.chart(part("psnr"), { title: "Likeness, PSNR in dB", low: 0, high: 35, line: RECOVERED, lineName: "recovered" });
    let [truth, label, what, seed, end, begun] = [null, 0, "", 0, null, 0];
    let [points, reached] = [[], 0];
    const say = (text) => { part("status").textContent = text; };
    const write = (name, text) => { part(name).querySelector("output").textContent = text; };
    const watch = requests((names) => {
      part("requests").textContent = names.length ? `${names.length} (${names.join(", ")})` : "0";
      part("requests").dataset.since = performance.now();
    });

    function settings() {
      const read = (name) => root.querySelector(`select[name=gilib-live-${name}]`).value;
      return { activation: read("activation"), noise: Number(read("noise")), pruned: Number(read("pruned")), seed: 1000 + seed };
    }

    function describe() {
      canvas("client").setAttribute("aria-label", `The client's picture: ${what}`);
      canvas("server").setAttribute("aria-label", "The server's guess: noise");
      picture.show(canvas("client"), truth);
      picture.show(canvas("server"), server.start(seed));
      canvas("sent").getContext("2d").clearRect(0, 0, 200, 200);
      [points, reached] = [[], 0];
      distances.draw(points);
      likeness.draw(points);
      write("server", "noise");
      write("sent", "nothing yet");
    }

    /** A picture for the client; `first` where the page chose it, not the reader. */
    function choose(image, name, number, first = false) {
      finish();
      [truth, what, label, seed] = [image, name, number, 1];
      go.textContent = go.dataset.first;
      describe();
      if (!first) watch();
    }

    function finish() {
      end?.();
      end = null;
      [go.hidden, stop.hidden] = [false, true];
    }

    function halt(focused = document.activeElement === stop) {
      finish();
      go.textContent = "Another start";
      seed += 1;
      if (focused) go.focus();
    }

    function report(state) {
      if (!end) return;
      if (state.image) {
        const psnr = picture.psnr(state.image, truth);
        points.push([state.evaluations, state.distance, psnr]);
        if (points.length > 600) points = points.filter((_, k) => k % 2 === 0);
        picture.show(canvas("server"), state.image);
        distances.draw(points);
        likeness.draw(points.map(([count, , value]) => [count, value]));
        const seconds = ((performance.now() - begun) / 1000).toFixed(0);
        write("server", `${psnr.toFixed(1)} dB, ${state.evaluations} guesses, ${seconds}\u00a0s`);
        canvas("server").setAttribute("aria-label", `The server's guess, at ${psnr.toFixed(0)} dB beside the client's picture`);
        const mark = MARKS.filter((one) => psnr >= one).pop() || 0;
        if (mark > reached) say(`${mark} dB after ${state.evaluations} guesses${mark >= RECOVERED ? ": recovered" : ""}.`);
        reached = Math.max(reached, mark);
      }
      if (!state.done) return;
      halt();
      const last = points[points.length - 1];
      say(`${ENDS[state.done] || state.done} ${last ? verdict(last[2], last[0]) : ""}`);
    }

    function verdict(psnr, evaluations) {
      const better = psnr >= RECOVERED ? "The photograph is out" : "It has not got the photograph";
      return `${better}: ${psnr.toFixed(1)} dB after ${evaluations} guesses.`;
    }

    function run() {
      describe();
      if (!part("requests").dataset.since) watch();
      const message = client.message(truth, label, settings());
      showNumbers(canvas("sent"), message.sent);
      const count = message.seen ? message.seen.reduce((sum, one) => sum + one, 0) : message.sent.length;
      write("sent", `${count.toLocaleString("en")} numbers`);
      const focused = document.activeElement === go;
      [go.hidden, stop.hidden] = [true, false];
      if (focused) stop.focus();
      root.querySelector(".gilib-live-charts").hidden = false;
      begun = performance.now();
      say("The gradient is sent. The server searches.");
      end = worker.start(message, { ...SETTINGS, seed }, calm.matches ? 2000 : 60, report);
    }

    go.dataset.first = go.textContent;
    go.addEventListener("click", run);
    stop.addEventListener("click", () => { if (end) { halt(true); say(`${ENDS.stopped} ${part("server").querySelector("output").textContent}.`); } });
    root.querySelectorAll("select").forEach((select) => select.addEventListener("change", () => choose(truth, what, label)));
    sources.connect(root, choose, say);
    root.dataset.ready = lenet.PARAMETERS;
  }

  document.querySelectorAll("[data-live=leak]").forEach(start);
  return { start };
});
