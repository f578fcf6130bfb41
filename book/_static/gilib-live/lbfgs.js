// L-BFGS: walk downhill, with the curvature estimated from the last steps.
"use strict";

gilibLive.define("lbfgs", function () {
  const dot = (a, b) => {
    let sum = 0;
    for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
    return sum;
  };
  const plus = (a, factor, b) => a.map((value, k) => value + factor * b[k]);
  const addTo = (a, factor, b) => {
    for (let k = 0; k < a.length; k++) a[k] += factor * b[k];
  };

  /** The direction to walk: the inverse curvature, estimated from `past` steps, times the negative slope. */
  function direction(slope, past) {
    const way = slope.map((value) => -value);
    const shares = past.map(() => 0);
    for (let i = past.length - 1; i >= 0; i--) {
      shares[i] = dot(past[i].step, way) / past[i].curvature;
      addTo(way, -shares[i], past[i].change);
    }
    const last = past[past.length - 1];
    const scale = last ? last.curvature / dot(last.change, last.change) : 1 / Math.sqrt(dot(way, way) || 1);
    addTo(way, scale - 1, way);
    past.forEach((one, i) => addTo(way, shares[i] - dot(one.change, way) / one.curvature, one.step));
    return way;
  }

  /** A step length that satisfies the weak Wolfe conditions, by doubling and bisection; the last tried after 25 trials. */
  function* lineSearch(objective, here, way, fall) {
    let [low, high, length] = [0, Infinity, 1];
    for (let trial = 0; trial < 25; trial++) {
      const point = plus(here.point, length, way);
      const there = { point, ...objective(point) };
      yield there;
      if (!(there.value <= here.value + 1e-4 * length * fall)) high = length;
      else if (dot(there.slope, way) < 0.9 * fall) low = length;
      else return there;
      length = high < Infinity ? (low + high) / 2 : 2 * length;
    }
    return null;
  }

  /**
   * Every evaluation of a descent, as {point, value, slope, accepted}; ends where no step leads down.
   * Source: Nocedal & Wright (2006), algorithms 7.4 and 7.5; the line search is that of Lewis & Overton (2013).
   * @param {function(Float64Array): {value: number, slope: Float64Array}} objective
   * @param {Float64Array} start
   * @param {number} history how many past steps are remembered
   */
  function* descend(objective, start, history = 100) {
    let here = { point: start, ...objective(start) };
    let past = [];
    yield { ...here, accepted: true };
    for (;;) {
      const way = direction(here.slope, past);
      const fall = dot(way, here.slope);
      const search = lineSearch(objective, here, way, fall);
      let tried = search.next();
      while (!tried.done) {
        yield { ...tried.value, accepted: false };
        tried = search.next();
      }
      const there = tried.value;
      if (!there && !past.length) return;
      if (!there) { past = []; continue; }
      yield { ...there, accepted: true };
      const one = { step: plus(there.point, -1, here.point), change: plus(there.slope, -1, here.slope) };
      one.curvature = dot(one.step, one.change);
      if (one.curvature > 1e-300) past.push(one);
      if (past.length > history) past.shift();
      here = there;
    }
  }

  return { descend, direction };
});
