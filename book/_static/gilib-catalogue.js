// The catalogue of papers: filters whose choice stands in the address, and files of what is shown. Loaded on that page only.
(function () {
  "use strict";

  const words = (text) => text.toLowerCase().normalize("NFD").replace(/[\u0300-\u036f]/g, "").match(/[\p{L}\p{N}]+/gu) || [];

  // A work of the table: its row, its values by facet, its words (title, authors, note, venue, the short name in the key).
  function read(row, facets) {
    const values = {};
    facets.forEach((name, place) => {
      const cell = row.cells[place];
      if (name) values[name] = (cell.dataset.values ?? cell.textContent).split(", ").filter(Boolean);
    });
    const said = [...row.cells[0].childNodes].filter((part) => part.className !== "gilib-open").map((part) => part.textContent);
    const texts = [...said, row.dataset.venue, row.id.replace(/^.*\d{4}/, "")];
    return { row, values, words: words(texts.join(" ")) };
  }

  function start() {
    const form = document.querySelector(".gilib-works-form");
    const table = document.querySelector("table.gilib-works");
    if (!form || !table) return;
    const facets = [...table.tHead.rows[0].cells].map((head) => head.dataset.facet || "");
    const works = [...table.tBodies[0].rows].map((row) => read(row, facets));
    const selects = [...form.querySelectorAll("select")];
    const status = form.querySelector("[role=status]");
    const fits = (work, select) => !select.value || work.values[select.name].includes(select.value);
    const spoken = (work, query) => query.every((typed) => work.words.some((word) => word.startsWith(typed)));

    // Numbers behind the options: how many works each would leave, given the other choices.
    function count(select, query) {
      const others = works.filter((work) => spoken(work, query) && selects.every((one) => one === select || fits(work, one)));
      for (const option of select.options) {
        if (!option.value) continue;
        const number = others.filter((work) => work.values[select.name].includes(option.value)).length;
        option.textContent = `${option.value} (${number})`;
        option.disabled = number === 0 && option.value !== select.value;
      }
      select.classList.toggle("set", select.value !== "");
    }

    function apply() {
      const query = words(form.q.value);
      for (const work of works) work.row.hidden = !(spoken(work, query) && selects.every((select) => fits(work, select)));
      const shown = works.filter((work) => !work.row.hidden).length;
      selects.forEach((select) => count(select, query));
      status.textContent = `${shown} of ${works.length} works`;
    }

    const choice = () => new URLSearchParams([...new FormData(form)].filter(([, value]) => value)).toString();
    function remember() {
      history.replaceState(null, "", choice() ? "#" + choice() : location.pathname + location.search);
      apply();
    }

    // #kind=defense&family=secure chooses; #work-... leads to a work, which must then be shown.
    function follow() {
      const hash = location.hash.slice(1);
      if (hash && !hash.includes("=") && !hash.startsWith("work-")) return;
      const wanted = new URLSearchParams(hash.includes("=") ? hash : "");
      form.q.value = wanted.get("q") || "";
      selects.forEach((select) => { select.value = wanted.get(select.name) || ""; });
      selects.forEach((select) => { if (select.selectedIndex < 0) select.value = ""; });
      const folded = form.querySelector("details");
      folded.open = folded.open || [...folded.querySelectorAll("select")].some((select) => select.value);
      apply();
      if (hash.startsWith("work-")) document.getElementById(hash)?.scrollIntoView({ block: "center" });
      else if (hash) form.scrollIntoView();
    }

    // Files of what is shown, made from a script that is fetched when it is first asked for.
    function save(kind) {
      const { [kind]: parts } = window.gilibWorks;
      const shown = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => parts[row.id.replace("work-", "")]);
      const text = kind === "csv" ? parts[""] + shown.join("") : shown.join("\n");
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: kind === "csv" ? "text/csv" : "application/x-bibtex" }));
      link.download = `catalogue.${kind}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }
    document.querySelectorAll(".gilib-works-files a").forEach((link) => link.addEventListener("click", (event) => {
      event.preventDefault();
      const kind = link.getAttribute("href").split(".").pop();
      if (window.gilibWorks) return save(kind);
      const script = document.createElement("script");
      script.src = link.href.replace(/[^/]*$/, "catalogue-files.js");
      script.onload = () => save(kind);
      document.head.append(script);
    }));

    form.addEventListener("input", remember);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(remember));
    window.addEventListener("hashchange", follow);
    document.querySelectorAll("a[data-choice]").forEach((link) => { link.href = "#" + link.dataset.choice; });
    form.hidden = false;
    apply();
    follow();
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
