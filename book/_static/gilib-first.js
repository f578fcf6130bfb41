// Runs before every other script of a page.
(function () {
  "use strict";
  document.documentElement.dataset.scripts = "on"; // hides the static strip under a figure that moves

  // The theme's icon script would turn the <i> of a play button into <svg>, and the button's own code would then throw.
  window.FontAwesomeConfig = { observeMutations: false };

  // The widget scripts speak to MathJax 2. Whatever object is MathJax at the moment (settings first, then the program), answer for it.
  const Hub = {
    Config() {},
    Configured() {},
    Queue(...tasks) {
      for (const task of tasks) {
        const element = Array.isArray(task) ? task[task.length - 1] : null;
        if (element instanceof Element && window.MathJax.typesetPromise) window.MathJax.typesetPromise([element]);
      }
    },
  };
  let current;
  Object.defineProperty(window, "MathJax", {
    configurable: true,
    get: () => current,
    set(value) {
      current = value;
      Object.defineProperty(current, "Hub", { value: Hub, configurable: true, enumerable: false });
    },
  });
})();
