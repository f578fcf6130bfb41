// The LeNet of Deep Leakage from Gradients, its gradient, and the derivative of a distance between gradients by the image.
//
// The network and its weights are those of gilib.models.lenet(): three convolutions of twelve channels, then a linear layer.
// All weights stand in one array, in the order of the library: conv1.weight, conv1.bias, ..., linear.bias. So do gradients.
"use strict";

gilibLive.define("lenet", function ({ convolution, random }) {
  const [WIDTH, CLASSES, SIDE, BOUND] = [12, 10, 32, 0.5];
  const LAYERS = [
    convolution.layer(3, WIDTH, SIDE, 2),
    convolution.layer(WIDTH, WIDTH, SIDE / 2, 2),
    convolution.layer(WIDTH, WIDTH, SIDE / 4, 1),
  ];
  const FEATURES = WIDTH * LAYERS[2].positions;
  const PIXELS = LAYERS[0].pixels;
  const TENSORS = [...LAYERS.flatMap((of) => [of.outputs * of.window, of.outputs]), CLASSES * FEATURES, CLASSES];
  const PARAMETERS = TENSORS.reduce((sum, count) => sum + count, 0);
  const zeros = (count) => new Float64Array(count);

  /** The eight tensors as views into one array of all parameters. */
  function tensors(array) {
    let start = 0;
    return TENSORS.map((count) => array.subarray(start, (start += count)));
  }

  /** The weights of gilib.models.lenet(seed=seed), in one array. */
  const weights = (seed = 0) => random.weights(random.uniform(seed), PARAMETERS, BOUND);

  // Value, first and second derivative of an activation: the derivatives as functions of input and value.
  const ACTIVATIONS = {
    sigmoid: {
      value: (a) => 1 / (1 + Math.exp(-a)),
      slope: (a, h) => h * (1 - h),
      bend: (a, h) => h * (1 - h) * (1 - 2 * h),
    },
    relu: { value: (a) => (a > 0 ? a : 0), slope: (a) => (a > 0 ? 1 : 0), bend: () => 0 },
  };

  function softmax(logits) {
    const top = Math.max(...logits);
    const raised = logits.map((z) => Math.exp(z - top));
    const sum = raised.reduce((total, e) => total + e, 0);
    return raised.map((e) => e / sum);
  }

  function forward(network, image) {
    const own = tensors(network.weights);
    const { value } = ACTIVATIONS[network.activation];
    const pass = { windows: [], before: [], after: [image] };
    LAYERS.forEach((of, i) => {
      pass.windows[i] = convolution.windows(of, pass.after[i]);
      const map = zeros(of.outputs * of.positions);
      own[2 * i + 1].forEach((bias, o) => map.fill(bias, o * of.positions, (o + 1) * of.positions));
      convolution.forward(of, pass.windows[i], own[2 * i], map);
      pass.before[i] = map;
      pass.after[i + 1] = map.map(value);
    });
    pass.logits = timesRows(own[6], pass.after[3], Float64Array.from(own[7]));
    pass.probabilities = softmax(pass.logits);
    return pass;
  }

  /** Add M v to `sum`, for a matrix M (CLASSES, FEATURES). */
  function timesRows(matrix, vector, sum) {
    for (let c = 0; c < CLASSES; c++) for (let f = 0; f < FEATURES; f++) sum[c] += matrix[c * FEATURES + f] * vector[f];
    return sum;
  }

  /** Add the transpose of M times v to `sum`. */
  function timesColumns(matrix, vector, sum) {
    for (let c = 0; c < CLASSES; c++) for (let f = 0; f < FEATURES; f++) sum[f] += matrix[c * FEATURES + f] * vector[c];
    return sum;
  }

  /** The pass forwards and backwards; `gradient` holds the gradient of the cross-entropy by all parameters. */
  function backprop(network, image, label) {
    const own = tensors(network.weights);
    const { slope } = ACTIVATIONS[network.activation];
    const pass = forward(network, image);
    Object.assign(pass, { gradient: zeros(PARAMETERS), byAfter: [], byBefore: [] });
    const gradients = tensors(pass.gradient);
    pass.byLogits = pass.probabilities.map((p, c) => p - (c === label ? 1 : 0));
    gradients[7].set(pass.byLogits);
    pass.byLogits.forEach((d, c) => pass.after[3].forEach((h, f) => { gradients[6][c * FEATURES + f] = d * h; }));
    let arriving = timesColumns(own[6], pass.byLogits, zeros(FEATURES));
    for (let i = 2; i >= 0; i--) {
      const of = LAYERS[i];
      const leaving = arriving.map((d, k) => d * slope(pass.before[i][k], pass.after[i + 1][k]));
      pass.byAfter[i] = arriving;
      pass.byBefore[i] = leaving;
      convolution.correlate(of, pass.windows[i], leaving, gradients[2 * i]);
      leaving.forEach((d, k) => { gradients[2 * i + 1][Math.floor(k / of.positions)] += d; });
      if (i) convolution.backward(of, leaving, own[2 * i], (arriving = zeros(of.pixels)));
    }
    return pass;
  }

  /** The gradient that a client with this image (3, 32, 32) in [0, 1] and this label would send. */
  const gradient = (network, image, label) => backprop(network, image, label).gradient;

  /**
   * The squared distance between the gradient of a candidate and the one that was sent, and its derivative by the candidate.
   *
   * The derivative runs twice through the network: up, through the steps of the backward pass, and down again through those
   * of the forward pass. Source: Zhu et al. (2019), with the label given, as in Zhao et al. (2020).
   * @param {{weights: Float64Array, activation: string}} network
   * @param {Float64Array} sent the shared gradient
   * @param {Uint8Array|null} seen 0 for entries that the client left out, which are not compared; null for none
   * @returns {{value: number, slope: Float64Array}}
   */
  function distance(network, sent, seen, image, label) {
    const pass = backprop(network, image, label);
    const rest = zeros(PARAMETERS); // the derivative of the distance by each entry of the candidate's gradient
    let value = 0;
    for (let k = 0; k < PARAMETERS; k++) {
      const off = seen && !seen[k] ? 0 : pass.gradient[k] - sent[k];
      value += off * off;
      rest[k] = 2 * off;
    }
    const toAfter = pass.after.map((map) => zeros(map.length));
    const toBefore = pass.before.map((map) => zeros(map.length));
    const arriving = upwards(network, pass, tensors(rest), toAfter, toBefore);
    linearLayer(network, pass, tensors(rest), arriving, toAfter[3]);
    return { value, slope: downwards(network, pass, toAfter, toBefore) };
  }

  /** From the image's end through the backward pass; returns what arrives at the derivative by the features. */
  function upwards(network, pass, rest, toAfter, toBefore) {
    const own = tensors(network.weights);
    const { slope, bend } = ACTIVATIONS[network.activation];
    let arriving = zeros(pass.byBefore[0].length);
    LAYERS.forEach((of, i) => {
      convolution.forward(of, pass.windows[i], rest[2 * i], arriving);
      rest[2 * i + 1].forEach((r, o) => {
        for (let k = o * of.positions; k < (o + 1) * of.positions; k++) arriving[k] += r;
      });
      convolution.backward(of, pass.byBefore[i], rest[2 * i], toAfter[i]);
      const [before, after, byAfter] = [pass.before[i], pass.after[i + 1], pass.byAfter[i]];
      arriving.forEach((d, k) => { toBefore[i][k] += d * byAfter[k] * bend(before[k], after[k]); });
      const leaving = arriving.map((d, k) => d * slope(before[k], after[k]));
      if (i === 2) arriving = leaving;
      else {
        const next = LAYERS[i + 1];
        arriving = zeros(next.outputs * next.positions);
        convolution.forward(next, convolution.windows(next, leaving), own[2 * i + 2], arriving);
      }
    });
    return arriving;
  }

  /** Through the last layer and the softmax: adds to the derivative by the features. */
  function linearLayer(network, pass, rest, arriving, toFeatures) {
    const own = tensors(network.weights);
    const byError = timesRows(own[6], arriving, Float64Array.from(rest[7]));
    timesRows(rest[6], pass.after[3], byError);
    timesColumns(rest[6], pass.byLogits, toFeatures);
    const mean = byError.reduce((sum, d, c) => sum + d * pass.probabilities[c], 0);
    timesColumns(own[6], byError.map((d, c) => pass.probabilities[c] * (d - mean)), toFeatures);
  }

  /** Down again through the forward pass; returns the derivative by the image. */
  function downwards(network, pass, toAfter, toBefore) {
    const own = tensors(network.weights);
    const { slope } = ACTIVATIONS[network.activation];
    for (let i = 2; i >= 0; i--) {
      toAfter[i + 1].forEach((d, k) => { toBefore[i][k] += d * slope(pass.before[i][k], pass.after[i + 1][k]); });
      convolution.backward(LAYERS[i], toBefore[i], own[2 * i], toAfter[i]);
    }
    return toAfter[0];
  }

  return { SIDE, PIXELS, CLASSES, PARAMETERS, TENSORS, weights, tensors, gradient, distance };
});
