// What the client sends: its gradient, pruned and with noise where it defends itself.
"use strict";

gilibLive.define("client", function ({ lenet, random }) {
  /**
   * Zeros for the share `ratio` of each tensor's entries, those of smallest magnitude; of equal ones the later go.
   * The rule is that of gilib.defenses pruning(ratio). Returns 1 for every entry that stays and 0 for the others.
   */
  function prune(gradient, ratio) {
    const stays = new Uint8Array(gradient.length);
    let start = 0;
    for (const count of lenet.TENSORS) {
      const order = Array.from({ length: count }, (_, k) => start + k);
      order.sort((i, j) => Math.abs(gradient[j]) - Math.abs(gradient[i]) || i - j);
      const kept = Math.max(1, count - Math.round(ratio * count));
      for (const k of order.slice(0, kept)) stays[k] = 1;
      start += count;
    }
    stays.forEach((stay, k) => { if (!stay) gradient[k] = 0; });
    return stays;
  }

  /**
   * The message to the server, and nothing else of the photograph.
   * @param {Float64Array} image (3, 32, 32) in [0, 1]
   * @param {number} label 0 to 9
   * @param {{activation: string, noise: number, pruned: number, seed: number}} settings `noise`: standard deviation, as a
   *   share of the root mean square of the gradient's entries; `pruned`: the share of entries left out
   * @returns {{sent: Float64Array, seen: Uint8Array|null, activation: string}} seen: 0 for what was left out
   */
  function message(image, label, { activation, noise, pruned, seed }) {
    const sent = lenet.gradient({ weights: lenet.weights(), activation }, image, label);
    const size = Math.sqrt(sent.reduce((sum, value) => sum + value * value, 0) / sent.length);
    const seen = pruned > 0 ? prune(sent, pruned) : null;
    if (noise > 0) {
      const draw = random.normal(seed);
      sent.forEach((value, k) => { if (!seen || seen[k]) sent[k] = value + noise * size * draw(); });
    }
    return { sent, seen, activation };
  }

  return { message, prune };
});
