// A small line chart that grows: an SVG whose colours come from the style sheet.
"use strict";

gilibLive.define("curve", function () {
  const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [320, 170, 42, 10, 24, 24];
  const NAMESPACE = "http://www.w3.org/2000/svg";

  function add(parent, tag, attributes, text = "") {
    const element = parent.appendChild(document.createElementNS(NAMESPACE, tag));
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    element.textContent = text;
    return element;
  }

  /**
   * Make an empty chart in `box`.
   * @param {{title: string, log: boolean, low: number, high: number, line: number|undefined, lineName: string}} options
   *   range of the vertical axis (decades where `log`), which grows downwards as needed; a dashed line with its name
   * @returns {{draw: function(Array<[number, number]>)}} draws points (evaluations, value)
   */
  function chart(box, { title, log = false, low, high, line, lineName = "" }) {
    const svg = add(box, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
    const grid = add(svg, "g", { class: "gilib-live-grid" });
    const path = add(svg, "polyline", { class: "gilib-live-line", points: "" });
    add(svg, "text", { x: LEFT, y: 14, class: "gilib-live-title" }, title);

    function draw(points) {
      const values = points.map(([, value]) => (log ? Math.log10(Math.max(value, 1e-30)) : value));
      const bottom = Math.min(low, ...values.map((value) => (log ? Math.floor(value) : value)));
      const top = Math.max(high, ...values.map((value) => (log ? Math.ceil(value) : value)));
      const end = Math.max(100, points.length ? points[points.length - 1][0] : 0);
      const x = (count) => LEFT + (count / end) * (WIDTH - LEFT - RIGHT);
      const y = (value) => HEIGHT - BOTTOM - ((value - bottom) / (top - bottom)) * (HEIGHT - TOP - BOTTOM);
      grid.replaceChildren();
      const step = log ? Math.ceil((top - bottom) / 5) : 10;
      for (let tick = Math.ceil(bottom / step) * step; tick <= top; tick += step) {
        add(grid, "path", { d: `M${LEFT} ${y(tick)}H${WIDTH - RIGHT}` });
        add(grid, "text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, log ? power(tick) : String(tick));
      }
      [0, end].forEach((count) => {
        add(grid, "text", { x: x(count), y: HEIGHT - 8, "text-anchor": count ? "end" : "start" }, count ? `${count} guesses` : "0");
      });
      if (line !== undefined) {
        add(grid, "path", { d: `M${LEFT} ${y(line)}H${WIDTH - RIGHT}`, class: "gilib-live-goal" });
        add(grid, "text", { x: LEFT + 4, y: y(line) - 5 }, lineName); // a curve that begins below it leaves this place free
      }
      path.setAttribute("points", points.map(([count], k) => `${x(count).toFixed(1)},${y(values[k]).toFixed(1)}`).join(" "));
    }
    draw([]);
    return { draw };
  }

  const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
  const power = (exponent) => "10" + [...String(exponent)].map((sign) => SUPERSCRIPT[sign]).join("");

  return { chart };
});
