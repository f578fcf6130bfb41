// Figures that a reader moves: one frame is shown, a slider and a play button say which. See book/_ext/gilib_frames.py.
(function () {
  "use strict";

  function move(figure) {
    const frames = [...figure.querySelectorAll(".gilib-frame")];
    const slider = figure.querySelector("input[type=range]");
    const button = figure.querySelector("button");
    let timer = null;

    function show(place) {
      frames.forEach((frame, index) => frame.classList.toggle("is-shown", index === place));
      slider.value = place;
      slider.setAttribute("aria-valuetext", frames[place].querySelector("figcaption").textContent);
    }
    function stop() {
      clearInterval(timer);
      timer = null;
      button.setAttribute("aria-pressed", "false");
    }
    function step() {
      show(Math.min(Number(slider.value) + 1, frames.length - 1));
      if (Number(slider.value) === frames.length - 1) stop();
    }
    button.addEventListener("click", () => {
      if (timer) return stop();
      if (Number(slider.value) === frames.length - 1) show(0); // from the beginning again
      button.setAttribute("aria-pressed", "true");
      timer = setInterval(step, Number(figure.dataset.interval));
    });
    slider.addEventListener("input", () => {
      stop();
      show(Number(slider.value));
    });
    show(0);
  }

  document.querySelectorAll(".gilib-scrub").forEach(move);
})();
