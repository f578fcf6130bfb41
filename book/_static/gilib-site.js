// Small repairs that make the theme usable by keyboard and by screen readers.
(function () {
  "use strict";

  // A box that scrolls must be reachable by keyboard, and fades where it goes on.
  function focusableBoxes() {
    document.querySelectorAll(".bd-content pre, .bd-content .table-box, .bd-content mjx-container, .bd-content .output").forEach((box) => {
      const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
      if (scrolls && !box.hasAttribute("tabindex")) box.tabIndex = 0;
      const fade = () => box.classList.toggle("gilib-goes-on", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
      if (!box.dataset.watched) box.addEventListener("scroll", fade, { passive: true });
      box.dataset.watched = "yes";
      fade();
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

  function start() {
    repairTheme();
    boxTables();
    filterTables();
    focusableBoxes();
    window.addEventListener("resize", focusableBoxes);
    window.MathJax?.startup?.promise?.then(focusableBoxes);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
