// The people behind a cell of the matrix: what came back of each, the settings and the price.
"use strict";

gilibLive.define("people", function ({ heat }) {
  const SIDE = 48;

  /** An element with a class and contents. */
  function make(tag, className, ...inside) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...inside);
    return element;
  }

  /** One image of a sheet, enlarged. */
  function picture(base, sheets, name, row, place, label) {
    const { strips, images } = sheets[name];
    const element = make("span", "gilib-matrix-picture");
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", label);
    element.style.backgroundImage = `url("${base}${name}")`;
    element.style.backgroundSize = `${images * SIDE}px ${strips * SIDE}px`;
    element.style.backgroundPosition = `-${place * SIDE}px -${row * SIDE}px`;
    return element;
  }

  /** The people of one seed under one attacker. */
  function list(base, data, result, way, from) {
    const found = heat.foundBy(result, way);
    const row = result.rows?.[result.plain === 0 ? "adaptive" : way];
    const items = found.psnr.map((psnr, place) => {
      const who = `person ${place + 1}`;
      const seen = row === undefined ? [] : [
        picture(base, data.sheets, result.sheet, data.sheets[result.sheet].people[found.psnr.length], place, `${who}: the image`),
        picture(base, data.sheets, result.sheet, row, place, `${who}: what came back`),
      ];
      const value = make("b", "", psnr > 80 ? "exact" : `${psnr.toFixed(1)} dB`);
      const marks = [["named", "named"], ["read", "read"]].filter(([kind]) => found[kind][place] === "1").map(([, word]) => word);
      return make("li", psnr >= from ? "gilib-matrix-known" : "", ...seen, value, make("small", "", marks.join(", ") || "–"));
    });
    const title = `Seed ${result.seed}`;
    if (row !== undefined) return [make("h4", "", title), make("ol", "", ...items)];
    const numbers = make("ol", "gilib-matrix-numbers", ...items);
    return [make("details", "", make("summary", "", `${title}: numbers only, no picture is stored`), numbers)];
  }

  const many = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  /** What a defense costs in this scene, in words. */
  function price(data, scene, defense) {
    const [ours, none] = [data.prices[scene]?.[defense], data.prices[scene]?.None];
    if (!ours) return "not measured in this scene";
    const share = (cost) => `${Math.round(mean(cost.right))} %`;
    return `${share(ours)} right after 100 rounds, the mean of ${many(ours.right.length, "training")} (without a defense ${share(none)}); ` +
      `a person sends ${ours.bytes.toLocaleString("en")} bytes a round (without a defense ${none.bytes.toLocaleString("en")})`;
  }

  /** What each attacker found, in words. */
  function attackers(results, from) {
    return heat.WAYS.map((way) => [way, heat.people(results, way)]).map(([way, found]) => {
      if (!found) return `${way}: not measured`;
      if (found.refused) return `${way}: does not apply; ${found.refused}`;
      const decibels = (value) => (value > 80 ? "exact" : `${value.toFixed(1)} dB`);
      return `${way}: median ${decibels(found.median)}, worst ${decibels(found.worst)}, ` +
        `${heat.recognised(found, from)} of ${found.psnr.length} from ${from} dB on, ${found.named} named`;
    });
  }

  /**
   * Fill the section of a cell.
   * @param {object} at {defense, column, stage, rounds, results, from, found, base}: names are indices into the data
   */
  function fill(section, data, at) {
    const [defense, column] = [data.defenses[at.defense], data.columns[at.column]];
    const close = make("button", "", "Close");
    close.type = "button";
    close.dataset.do = "close";
    const heading = make("h3", "", `${at.defense ? defense.name : "No defense"} against ${column.attack} (${column.network})`);
    heading.tabIndex = -1;
    const facts = [
      ["Defense", defense.strength || "none"],
      ["Who looks", defense.looks],
      ["Attack", `${data.attacks[column.attack][at.rounds === 1 ? 0 : 1]}; ${many(at.rounds, "round")} from round ${at.stage} on`],
      ...attackers(at.results, at.from).map((words) => ["Attacker", words]),
      ["Network", `${at.results.map((one) => `${Math.round(100 * one.right)} %`).join(", ")} right when it was attacked`],
      ["Price", price(data, column.scene, defense.name)],
    ];
    const settings = make("dl", "", ...facts.flatMap(([name, text]) => [make("dt", "", name), make("dd", "", text)]));
    const shown = at.found.refused ? [make("p", "", "The attack does not apply, so nobody comes back.")] : [
      make("p", "", `What the ${at.found.way} attacker found, beside the image of each person; PSNR, and whether it is named and read. A frame marks who is recognisable.`),
      ...at.results.filter((one) => heat.foundBy(one, at.found.way)?.psnr).flatMap((one) => list(at.base, data, one, at.found.way, at.from)),
    ];
    section.replaceChildren(make("div", "gilib-matrix-head", heading, close), settings, ...shown);
    section.hidden = false;
    return heading;
  }

  return { fill };
});
