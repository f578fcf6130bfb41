// A 5 x 5 convolution and its two derivatives, as products of small matrices.
//
// A layer is {inputs, outputs, side, stride}. Images (inputs, side, side) and maps (outputs, out, out) are flat arrays; `out`
// is side / stride. The windows of an image are a matrix with one row for each position of the map.
"use strict";

gilibLive.define("convolution", function () {
  const [KERNEL, PADDING] = [5, 2];

  /** The layer with what follows from its sizes: positions, entries of a window, and where each entry comes from. */
  function layer(inputs, outputs, side, stride) {
    const out = side / stride;
    const made = { inputs, outputs, side, stride, positions: out * out, window: inputs * KERNEL * KERNEL };
    made.pixels = inputs * side * side;
    made.from = new Int32Array(made.positions * made.window);
    let at = 0;
    for (let q = 0; q < made.positions; q++) {
      for (let c = 0; c < inputs; c++) {
        for (let a = 0; a < KERNEL; a++) {
          for (let b = 0; b < KERNEL; b++) {
            const row = Math.floor(q / out) * stride + a - PADDING;
            const column = (q % out) * stride + b - PADDING;
            const inside = row >= 0 && row < side && column >= 0 && column < side;
            made.from[at++] = inside ? (c * side + row) * side + column : made.pixels; // one pixel more, always zero
          }
        }
      }
    }
    return made;
  }

  /**
   * Add the product of two matrices to a third: c[i, j] += sum over k of a[i, k] b[k, j].
   * Each matrix is [array, step between rows, step between columns]; `rows` is even and `columns` a multiple of 3:
   * two rows and three columns at a time, so that what was read is used more than once.
   */
  function addProduct(rows, columns, inner, [a, aRow, aColumn], [b, bRow, bColumn], [c, cRow, cColumn]) {
    for (let i = 0; i < rows; i += 2) {
      for (let j = 0; j < columns; j += 3) {
        let c00 = 0, c01 = 0, c02 = 0, c10 = 0, c11 = 0, c12 = 0;
        let p = i * aRow, q = j * bColumn;
        for (let k = 0; k < inner; k++) {
          const a0 = a[p], a1 = a[p + aRow];
          const b0 = b[q], b1 = b[q + bColumn], b2 = b[q + 2 * bColumn];
          c00 += a0 * b0; c01 += a0 * b1; c02 += a0 * b2;
          c10 += a1 * b0; c11 += a1 * b1; c12 += a1 * b2;
          p += aColumn;
          q += bRow;
        }
        let to = i * cRow + j * cColumn;
        c[to] += c00; c[to + cColumn] += c01; c[to + 2 * cColumn] += c02;
        to += cRow;
        c[to] += c10; c[to + cColumn] += c11; c[to + 2 * cColumn] += c12;
      }
    }
  }

  /** The windows (positions, window) of an image. */
  function windows(of, image) {
    const padded = new Float64Array(of.pixels + 1);
    padded.set(image);
    const rows = new Float64Array(of.from.length);
    for (let k = 0; k < rows.length; k++) rows[k] = padded[of.from[k]];
    return rows;
  }

  /** Add the convolution of an image, given by its windows, with weights (outputs, window) to a map. */
  function forward(of, rows, weights, map) {
    addProduct(of.positions, of.outputs, of.window, [rows, of.window, 1], [weights, 1, of.window], [map, 1, of.positions]);
  }

  /** Add the transposed convolution of a map to an image: the derivative by the image. */
  function backward(of, map, weights, image) {
    const rows = new Float64Array(of.from.length);
    addProduct(of.positions, of.window, of.outputs, [map, 1, of.positions], [weights, of.window, 1], [rows, of.window, 1]);
    const padded = new Float64Array(of.pixels + 1);
    for (let k = 0; k < rows.length; k++) padded[of.from[k]] += rows[k];
    for (let k = 0; k < image.length; k++) image[k] += padded[k];
  }

  /** Add the correlation of a map with windows to weights: the derivative by the weights. */
  function correlate(of, rows, map, weights) {
    addProduct(of.outputs, of.window, of.positions, [map, of.positions, 1], [rows, of.window, 1], [weights, of.window, 1]);
  }

  return { layer, windows, forward, backward, correlate };
});
