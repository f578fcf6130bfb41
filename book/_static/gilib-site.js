// Small repairs that make the theme usable by keyboard and by screen readers.
(function () {
  "use strict";

  // A box that scrolls must be reachable by keyboard, and fades where it goes on. One that was closed has no size until it opens.
  const BOXES = ".bd-content :is(pre, .table-box, .pst-scrollable-table-container, mjx-container[display], .output)";
  function look(box) {
    const right = box.scrollWidth - box.clientWidth;
    const down = box.matches(".table-box") ? box.scrollHeight - box.clientHeight : 0;
    if ((right > 1 || down > 1) && !box.hasAttribute("tabindex")) box.tabIndex = 0;
    box.classList.toggle("gilib-goes-on", box.scrollLeft < right - 1);
    box.classList.toggle("gilib-goes-down", box.scrollTop < down - 1);
  }
  const sizes = new ResizeObserver((changes) => changes.forEach((change) => look(change.target)));
  function watchBoxes() {
    document.querySelectorAll(BOXES).forEach((box) => {
      if (!box.dataset.watched) box.addEventListener("scroll", () => look(box), { passive: true });
      box.dataset.watched = "yes";
      sizes.observe(box);
    });
  }

  // A wide table scrolls inside its own box, never the page.
  function boxTables() {
    document.querySelectorAll(".bd-article table").forEach((table) => {
      if (table.closest(".table-box, .pst-scrollable-table-container")) return;
      const box = document.createElement("div");
      box.className = "table-box";
      table.replaceWith(box);
      box.append(table);
    });
  }

  // A long table gets a box that shows only the rows that have, for each word typed into it, a word that begins so.
  function filterTables() {
    document.querySelectorAll("table.gilib-filter").forEach((table) => {
      const rows = [...table.tBodies[0].rows];
      const wordsOf = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) || [];
      const inRow = new Map(rows.map((row) => [row, [...row.cells].flatMap((cell) => wordsOf(cell.textContent))]));
      const bar = document.createElement("p");
      bar.className = "gilib-filter-bar";
      bar.innerHTML = '<label>Filter <input type="search" autocomplete="off"></label> <span role="status"></span>';
      const [input, status] = [bar.querySelector("input"), bar.querySelector("span")];
      const apply = () => {
        const words = wordsOf(input.value);
        rows.forEach((row) => { row.hidden = !words.every((word) => inRow.get(row).some((one) => one.startsWith(word))); });
        status.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
      };
      input.addEventListener("input", apply);
      (table.closest(".table-box") || table).before(bar);
      apply();
    });
  }

  // Names and roles that the theme and Sphinx leave wrong.
  function repairTheme() {
    document.querySelectorAll(".search-button-field").forEach((button) => {
      button.setAttribute("aria-label", button.textContent.replace(/\s+/g, " ").trim()); // what is seen is what is read
    });
    document.querySelectorAll("i[class*='fa-']").forEach((icon) => icon.setAttribute("aria-hidden", "true")); // drawn by a font
    document.querySelectorAll(".bd-sidebar-primary summary").forEach((summary) => {
      const page = summary.closest("li")?.querySelector("a")?.textContent.trim();
      summary.setAttribute("aria-label", page ? `Pages under ${page}` : "Pages under this one");
    });
    document.querySelectorAll("details.hide > summary").forEach((summary) => {
      summary.removeAttribute("aria-label"); // "Toggle hidden content" says less than the words that are seen
    });
    document.querySelectorAll("dt.sig > dl, dt.sig > dl > dd").forEach((part) => part.setAttribute("role", "none"));
    document.querySelectorAll(".citation-list > .citation").forEach((entry) => entry.setAttribute("role", "listitem"));
  }

  // Paper is white, whatever the screen was.
  function printLight() {
    const root = document.documentElement;
    let before = null;
    window.addEventListener("beforeprint", () => {
      before = before || root.dataset.theme;
      root.dataset.theme = "light";
    });
    window.addEventListener("afterprint", () => {
      if (before) root.dataset.theme = before;
      before = null;
    });
  }

  function start() {
    repairTheme();
    printLight();
    boxTables();
    filterTables();
    watchBoxes();
    window.MathJax?.startup?.promise?.then(watchBoxes);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
