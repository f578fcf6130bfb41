// The search in a thread of its own, made from the text of the modules: no file is fetched for it.
"use strict";

gilibLive.define("worker", function (live) {
  const MODULES = ["random", "convolution", "lenet", "lbfgs", "server"];
  const MAIN = `
    onmessage = ({ data: { message, settings, pause } }) => {
      let last = -Infinity;
      for (const state of live.server.search(message, settings)) {
        const now = performance.now();
        if (!state.done && now - last < pause) continue;
        last = now;
        postMessage(state);
      }
    };`;

  /**
   * Start a search; `message` is everything of the client that the thread gets.
   * @param {number} pause the least time between two reports, in milliseconds
   * @param {function(object)} report gets the states of server.search
   * @returns {function()} stops the search
   */
  function start(message, settings, pause, report) {
    const address = URL.createObjectURL(new Blob([live.scriptOf(MODULES) + MAIN], { type: "text/javascript" }));
    const worker = new Worker(address);
    URL.revokeObjectURL(address);
    worker.onmessage = ({ data }) => {
      if (data.done) worker.terminate();
      report(data);
    };
    worker.onerror = ({ message: text }) => report({ done: `error: ${text}` });
    worker.postMessage({ message, settings, pause });
    return () => worker.terminate();
  }

  return { start };
});
