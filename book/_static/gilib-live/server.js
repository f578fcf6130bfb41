// What the server does: it reads the label, guesses an image, and walks downhill until the gradients agree.
"use strict";

gilibLive.define("server", function ({ lenet, lbfgs, random }) {
  /** The label of a single image: the row of the last layer's gradient with the smallest sum (Zhao et al., 2020). */
  function readLabel(sent) {
    const last = lenet.tensors(sent)[6];
    const sums = Array(lenet.CLASSES).fill(0);
    last.forEach((value, k) => { sums[Math.floor((k * lenet.CLASSES) / last.length)] += value; });
    return sums.indexOf(Math.min(...sums));
  }

  /** Faint noise around grey: where the search starts. */
  function start(seed) {
    const draw = random.normal(seed);
    return Float64Array.from({ length: lenet.PIXELS }, () => 0.5 + 0.1 * draw());
  }

  /**
   * The states of a search, one for each better guess.
   * @param {{sent: Float64Array, seen: Uint8Array|null, activation: string}} message what the client sent
   * @param {{seed: number, evaluations: number, agreement: number}} settings the search ends after so many evaluations of
   *   the distance, or where the distance is `agreement` times the first
   * @yields {{label: number, evaluations: number, distance: number, image: Float64Array, done: string}} done: "" while it
   *   goes on, then "agrees", "budget" or "stuck"
   */
  function* search({ sent, seen, activation }, { seed, evaluations, agreement }) {
    const network = { weights: lenet.weights(), activation };
    const label = readLabel(sent);
    const objective = (image) => lenet.distance(network, sent, seen, image, label);
    let [count, first, state] = [0, null, null];
    for (const { point, value, accepted } of lbfgs.descend(objective, start(seed))) {
      if (accepted) {
        first = first ?? value;
        state = { label, evaluations: count, distance: value, image: point, done: "" };
        if (value <= agreement * first) { yield { ...state, done: "agrees" }; return; }
        yield state;
      } else if (++count >= evaluations) { yield { ...state, evaluations: count, done: "budget" }; return; }
    }
    yield { ...state, evaluations: count, done: "stuck" };
  }

  return { readLabel, start, search };
});
