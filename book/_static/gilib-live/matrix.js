// The explorer of the matrix: switches, a slider and a table whose cells open; the address keeps the view.
"use strict";

gilibLive.define("matrix", function (live) {
  const { heat, people } = live;
  const ROOT = new URL("../../", document.currentScript.src);
  const START = { attacker: "better", stage: "0", rounds: "1", people: "0", network: "", show: "median", from: "25" };
  const NEAR = "800px";
  const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -99], End: [0, 99] };

  /** Fetch the numbers, by a script, which works from a folder too. */
  function fetched(source) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL(source, ROOT);
      script.onload = () => resolve(live.matrixData);
      script.onerror = reject;
      document.head.append(script);
    });
  }

  /** The view in an address such as #matrix&stage=100&from=30&cell=14.0; what it does not say is as at the start. */
  function addressed() {
    if (!/^#matrix(&|$)/.test(location.hash)) return null;
    return { ...START, ...Object.fromEntries(new URLSearchParams(location.hash.slice("#matrix".length))) };
  }

  function explore(root, data) {
    const inputs = Object.fromEntries(Object.keys(START).map((name) => [name, root.querySelector(`[name=${name}]`)]));
    const [table, section] = [root.querySelector("table"), root.querySelector("section")];
    const base = new URL("_static/gilib-matrix/", ROOT).href;
    let [open, active] = [null, null]; // "defense.column" of the open cell, and of the one that the Tab key reaches

    const view = () => Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value]));
    const resultsAt = (defense, column, { stage, rounds }) => data.cells[[defense, column, stage, rounds].join(".")];
    const group = () => data.groups[Number(inputs.people.value)];
    const fits = (column, { network }) => !network || data.columns[column].network === network;
    const measured = (column, now) => data.defenses.some((_, defense) => resultsAt(defense, column, now));

    /** Leave only choices that somebody measured; a choice that is none becomes the first that is one. */
    function limit() {
      const networks = [...new Set(group().map((column) => data.columns[column].network))];
      const kept = inputs.network.value;
      inputs.network.replaceChildren(new Option("all", ""), ...networks.map((name) => new Option(name, name)));
      inputs.network.value = networks.includes(kept) ? kept : "";
      for (const name of ["rounds", "stage"]) {
        for (const option of inputs[name].options) {
          const others = name === "rounds" ? ["0", "20", "100"] : [view().stage];
          const there = name === "rounds"
            ? (column) => others.some((stage) => measured(column, { stage, rounds: option.value }))
            : (column) => measured(column, { stage: option.value, rounds: inputs.rounds.value });
          option.disabled = !group().some((column) => fits(column, view()) && there(column));
        }
        if (inputs[name].selectedOptions[0].disabled) inputs[name].value = [...inputs[name].options].find((one) => !one.disabled).value;
      }
    }

    /** Write the table and the sentence above it. */
    function draw() {
      limit();
      const now = view();
      const columns = group().filter((column) => fits(column, now) && measured(column, now));
      const rows = data.defenses.map((_, place) => place).filter((place) => resultsAt(place, columns.at(-1), now));
      const [count, safe] = [{ known: 0, of: 0 }, []];
      const head = columns.map((column) => {
        const { attack, network } = data.columns[column];
        return `<th scope="col"><span>${attack} (${network})</span></th>`;
      });
      const body = rows.map((defense) => {
        const cells = columns.map((column) => {
          const found = heat.chosen(resultsAt(defense, column, now), now.attacker);
          return { column, ...heat.cell(found, { show: now.show, from: Number(now.from) }) };
        });
        const able = cells.filter((cell) => cell.of);
        able.forEach((cell) => { count.known += cell.count; count.of += cell.of; });
        if (able.length && able.every((cell) => !cell.count)) safe.push(data.defenses[defense].name);
        return `<tr><th scope="row">${data.defenses[defense].name}</th>${cells.map((cell) => button(defense, cell)).join("")}</tr>`;
      });
      const said = [...["attacker", "stage", "rounds", "people"].map((name) => inputs[name].selectedOptions[0].text)];
      table.caption.textContent = `${inputs.show.selectedOptions[0].text}; ${said.join("; ")}`;
      table.tHead.innerHTML = `<tr><th scope="col"><span>Defense</span></th>${head.join("")}</tr>`;
      table.tBodies[0].innerHTML = body.join("");
      root.querySelector("output").textContent = now.from;
      root.querySelector("[role=status]").textContent = `From ${now.from} dB on, ${count.known.toLocaleString("en")} of ` +
        `${count.of.toLocaleString("en")} images are recognisable; in ${safe.length} of ${rows.length} rows nobody is` +
        `${safe.length && safe.length < 9 ? `: ${safe.join("; ")}` : ""}.`;
      if (!buttonOf(active)) active = table.querySelector("button").dataset.cell;
      buttonOf(active).tabIndex = 0;
      show();
    }

    function button(defense, { column, text, share, words }) {
      const { attack, network } = data.columns[column];
      const [paper, ink] = Number.isNaN(share) ? ["transparent", "inherit"] : heat.shade(data.shades, share);
      const label = `${words}: ${data.defenses[defense].name}, ${attack} (${network})`;
      return `<td style="background:${paper};color:${ink}"><button type="button" tabindex="-1" data-cell="${defense}.${column}" aria-label="${label}">${text}</button></td>`;
    }

    const buttonOf = (cell) => cell && table.querySelector(`[data-cell="${cell}"]`);

    /** Fill the section of the open cell, or close it where this view has no such cell; return its heading. */
    function show() {
      const [defense, column] = (open || "-1.-1").split(".").map(Number);
      const now = view();
      const results = buttonOf(open) && resultsAt(defense, column, now);
      const found = heat.chosen(results, now.attacker);
      table.querySelectorAll("[aria-current]").forEach((one) => one.removeAttribute("aria-current"));
      if (found) buttonOf(open).setAttribute("aria-current", "true");
      section.hidden = !found;
      const at = { defense, column, stage: Number(now.stage), rounds: Number(now.rounds), from: Number(now.from), results, found, base };
      return found ? people.fill(section, data, at) : null;
    }

    function remember() {
      const said = Object.entries(view()).filter(([name, value]) => value !== START[name]);
      if (open && !section.hidden) said.push(["cell", open]);
      const address = new URLSearchParams(said).toString();
      history.replaceState(null, "", "#matrix" + (address && "&" + address));
    }

    function choose(cell) {
      [open, active] = [cell, cell];
      draw();
      const heading = section.hidden ? null : section.querySelector("h3");
      heading?.focus({ preventScroll: true });
      heading?.scrollIntoView({ block: "nearest" });
      remember();
    }

    function close() {
      const last = buttonOf(open);
      open = null;
      show();
      last?.focus();
      remember();
    }

    function move(event) {
      const [down, right] = MOVES[event.key] || [0, 0];
      if (!down && !right) return;
      event.preventDefault();
      const rows = [...table.tBodies[0].rows];
      const row = rows.indexOf(event.target.closest("tr"));
      const place = event.target.closest("td").cellIndex;
      const within = (value, low, high) => Math.min(Math.max(value, low), high);
      const next = rows[within(row + down, 0, rows.length - 1)];
      event.target.tabIndex = -1;
      const target = next.cells[within(place + right, 1, next.cells.length - 1)].firstChild;
      [active, target.tabIndex] = [target.dataset.cell, 0];
      target.focus();
    }

    /** Take the view from the address. */
    function follow() {
      const wanted = addressed();
      if (!wanted) return;
      inputs.people.value = wanted.people;
      if (inputs.people.selectedIndex < 0) inputs.people.value = START.people;
      limit();
      for (const [name, input] of Object.entries(inputs)) {
        input.value = wanted[name];
        if (input.selectedIndex < 0) input.value = START[name];
      }
      open = wanted.cell || null;
      draw();
      root.scrollIntoView();
    }

    root.addEventListener("input", (event) => { if (event.target.name in inputs) draw(); });
    root.addEventListener("change", remember);
    table.addEventListener("click", (event) => { if (event.target.dataset.cell) choose(event.target.dataset.cell); });
    table.addEventListener("keydown", (event) => { if (event.target.dataset.cell) move(event); });
    section.addEventListener("click", (event) => { if (event.target.dataset.do === "close") close(); });
    root.addEventListener("keydown", (event) => { if (event.key === "Escape" && !section.hidden) close(); });
    window.addEventListener("hashchange", follow);
    root.hidden = false;
    draw();
    follow();
    root.dataset.ready = "yes";
  }

  /** Take the place of the figure's table when the reader comes near, and its data are there. */
  function start(root) {
    const figure = document.getElementById(root.dataset.figure);
    const table = figure.querySelector("table");
    async function take() {
      watch.disconnect();
      const data = await fetched(root.dataset.source).catch(() => null);
      if (!data) return; // the table stays
      const box = table.closest(".table-box") || table;
      box.before(root);
      box.classList.add("gilib-live-instead");
      explore(root, data);
    }
    const watch = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) take(); }, { rootMargin: NEAR });
    if (addressed()) take();
    else watch.observe(figure);
    window.addEventListener("hashchange", () => { if (!root.dataset.ready && addressed()) take(); });
  }

  document.querySelectorAll("[data-live=matrix]").forEach(start);
  return { start };
});
