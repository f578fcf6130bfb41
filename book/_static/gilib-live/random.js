// Random numbers that are the same everywhere, and the same as the library's: the generator of torch.Generator.
"use strict";

gilibLive.define("random", function () {
  const [LENGTH, SHIFT] = [624, 397];

  /**
   * Uniform numbers in [0, 1) with 53 bits, as torch.rand(dtype=torch.float64) draws them on a CPU.
   * Source: the Mersenne Twister MT19937 of Matsumoto & Nishimura (1998).
   * @param {number} seed a whole number, 0 to 2^32 - 1
   * @returns {function(): number}
   */
  function uniform(seed) {
    const state = new Uint32Array(LENGTH);
    let place = LENGTH;
    state[0] = seed;
    for (let i = 1; i < LENGTH; i++) {
      state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
    }
    function twist() {
      for (let i = 0; i < LENGTH; i++) {
        const joined = (state[i] & 0x80000000) | (state[(i + 1) % LENGTH] & 0x7fffffff);
        state[i] = state[(i + SHIFT) % LENGTH] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
      }
      place = 0;
    }
    function word() {
      if (place === LENGTH) twist();
      let bits = state[place++];
      bits ^= bits >>> 11;
      bits ^= (bits << 7) & 0x9d2c5680;
      bits ^= (bits << 15) & 0xefc60000;
      return (bits ^ (bits >>> 18)) >>> 0;
    }
    return function () {
      const high = word() & 0x1fffff; // 21 bits, and 32 of the next word
      return (high * 2 ** 32 + word()) / 2 ** 53;
    };
  }

  /** Numbers with mean 0 and standard deviation 1, two uniform ones each (Box & Muller, 1958). */
  function normal(seed) {
    const draw = uniform(seed);
    return () => Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());
  }

  /** `count` weights, uniform in ±bound and rounded to single precision, as gilib.models stores them. */
  function weights(draw, count, bound) {
    return Float64Array.from({ length: count }, () => Math.fround(bound * (2 * draw() - 1)));
  }

  return { uniform, normal, weights };
});
