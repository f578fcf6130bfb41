// Modules without a loader. Each file defines one module as a function of the others; its text can be sent to a worker, so
// that a page opened from a folder works too, and that starting a search fetches nothing.
(function () {
  "use strict";
  const live = (globalThis.gilibLive = globalThis.gilibLive || { texts: {} });

  /**
   * Make a module.
   * @param {string} name under which others find it: gilibLive[name]
   * @param {function(object): object} make returns what the module offers; gets all modules defined before
   */
  live.define = function (name, make) {
    live.texts[name] = make;
    live[name] = make(live);
  };

  /** The text of a script that defines these modules, in this order, under the same names. */
  live.scriptOf = (names) =>
    `"use strict";\nconst live = {};\n${names.map((name) => `live.${name} = (${live.texts[name]})(live);`).join("\n")}\n`;
})();
