// A network with one hidden layer of ReLUs, its gradient on a batch, and the division that undoes it.
"use strict";

gilibLive.define("dense", function ({ random }) {
  /**
   * The network of gilib.models.mlp(channels=1, size=..., hidden=(neurons,), seed=seed).
   * @param {number} pixels entries of an image
   * @returns {{pixels, neurons, classes, weights, bias, lastWeights, lastBias}}
   */
  function mlp(pixels, neurons, classes = 10, seed = 0) {
    const draw = random.uniform(seed);
    const layer = (inputs, outputs) => [inputs * outputs, outputs].map((count) => random.weights(draw, count, 1 / Math.sqrt(inputs)));
    const [weights, bias] = layer(pixels, neurons);
    const [lastWeights, lastBias] = layer(neurons, classes);
    return { pixels, neurons, classes, weights, bias, lastWeights, lastBias };
  }

  /** Row `row` of a matrix with `width` columns times a vector. */
  function timesRow(matrix, row, width, vector) {
    let sum = 0;
    for (let k = 0; k < width; k++) sum += matrix[row * width + k] * vector[k];
    return sum;
  }

  /** The derivative of the cross-entropy of one image by what enters each hidden ReLU; zero where the ReLU is off. */
  function errors(network, image, label) {
    const { pixels, neurons, classes } = network;
    const hidden = Array.from(network.bias, (b, i) => Math.max(0, b + timesRow(network.weights, i, pixels, image)));
    const logits = Array.from(network.lastBias, (b, c) => b + timesRow(network.lastWeights, c, neurons, hidden));
    const top = Math.max(...logits);
    const total = logits.reduce((sum, z) => sum + Math.exp(z - top), 0);
    const last = logits.map((z, c) => Math.exp(z - top) / total - (c === label ? 1 : 0));
    return hidden.map((h, i) => {
      let sum = 0;
      for (let c = 0; c < classes; c++) sum += network.lastWeights[c * neurons + i] * last[c];
      return h > 0 ? sum : 0;
    });
  }

  /**
   * The gradient of the first layer, averaged over a batch.
   * @param {Array<Float64Array>} images each `pixels` long
   * @param {Array<number>} labels
   * @returns {{weights: Float64Array, bias: Float64Array}} (neurons, pixels) in one array, and (neurons)
   */
  function gradient(network, images, labels) {
    const { pixels, neurons } = network;
    const sum = { weights: new Float64Array(neurons * pixels), bias: new Float64Array(neurons) };
    images.forEach((image, place) => {
      errors(network, image, labels[place]).forEach((error, i) => {
        sum.bias[i] += error / images.length;
        for (let k = 0; k < pixels; k++) sum.weights[i * pixels + k] += (error / images.length) * image[k];
      });
    });
    return sum;
  }

  /** The gradient with noise of this standard deviation, as a share of the root mean square of its entries. */
  function noisy({ weights, bias }, share, seed) {
    if (!share) return { weights, bias };
    const squares = [weights, bias].map((part) => part.reduce((sum, value) => sum + value * value, 0));
    const size = Math.sqrt((squares[0] + squares[1]) / (weights.length + bias.length));
    const draw = random.normal(seed);
    const spoil = (part) => part.map((value) => value + share * size * draw());
    return { weights: spoil(weights), bias: spoil(bias) };
  }

  /**
   * The division, one neuron at a time: the gradient of its weights by that of its bias; null where that is zero.
   * Source: Phong et al. (2018).
   */
  function quotients({ weights, bias }) {
    const width = weights.length / bias.length;
    return Array.from(bias, (error, i) => (error === 0 ? null : weights.slice(i * width, (i + 1) * width).map((w) => w / error)));
  }

  return { mlp, gradient, noisy, quotients };
});
