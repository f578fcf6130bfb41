// What a cell of the matrix says for a view: medians and counts of the stored people, its text and its colour.
"use strict";

gilibLive.define("heat", function () {
  const [EXACT, WAYS] = [80, ["adaptive", "plain"]];

  /** The quantile at one half, between the two in the middle. */
  function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = (sorted.length - 1) / 2;
    return (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
  }

  /** What one attacker found in a result: null where it was not measured. */
  const foundBy = (result, way) => (way === "plain" && result.plain === 0 ? result.adaptive : result[way]) || null;

  /** All people of a cell under one attacker: null where nobody measured it, refused where the attack does not apply. */
  function people(results, way) {
    const all = (results || []).map((result) => foundBy(result, way)).filter(Boolean);
    if (!all.length) return null;
    const some = all.filter((found) => !found.refused);
    if (!some.length) return { way, refused: all[0].refused };
    const psnr = some.flatMap((found) => found.psnr);
    const named = some.flatMap((found) => [...found.named]).filter((bit) => bit === "1").length;
    return { way, psnr, named, median: median(psnr), worst: Math.max(...psnr) };
  }

  /** The attacker that a view asks for; of two the one whose median is higher. */
  function chosen(results, attacker) {
    if (attacker !== "better") return people(results, attacker);
    const both = WAYS.map((way) => people(results, way)).filter(Boolean);
    const able = both.filter((one) => !one.refused);
    return able.reduce((best, one) => (one.median > best.median ? one : best), able[0]) || both[0] || null;
  }

  const recognised = (found, from) => found.psnr.filter((value) => value >= from).length;
  const decibels = (value) => (value > EXACT ? "exact" : String(Math.round(value)));

  /** Text, share and spoken words of a cell. */
  function cell(found, { show, from }) {
    if (!found) return { text: "·", share: NaN, words: "not measured" };
    if (found.refused) return { text: "–", share: NaN, words: "the attack does not apply" };
    const [count, of] = [recognised(found, from), found.psnr.length];
    const text = show === "share" ? String(Math.round((100 * count) / of)) : decibels(found[show]);
    const unit = show === "share" ? "%" : text === "exact" ? "" : "dB";
    return { text, share: count / of, count, of, words: `${text} ${unit}, ${count} of ${of} recognisable`.replace(" ,", ",") };
  }

  /** The colours of a share, from those of the page's data. */
  const shade = (shades, share) => shades[Math.round((shades.length - 1) * share)];

  return { median, foundBy, people, chosen, recognised, decibels, cell, shade, WAYS };
});
