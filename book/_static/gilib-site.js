// Small repairs that make the theme and the widgets usable by keyboard and by screen readers.
(function () {
  "use strict";

  // A box that scrolls must be reachable by keyboard.
  function focusableBoxes() {
    document.querySelectorAll(".bd-content pre, .bd-content .table-box, .bd-content mjx-container, .bd-content .output").forEach((box) => {
      const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
      if (scrolls && !box.hasAttribute("tabindex")) box.tabIndex = 0;
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

  // A long table gets a box that shows only the rows with all the words typed into it.
  function filterTables() {
    document.querySelectorAll("table.gilib-filter").forEach((table) => {
      const rows = [...table.tBodies[0].rows];
      const bar = document.createElement("p");
      bar.className = "gilib-filter-bar";
      bar.innerHTML = '<label>Filter <input type="search" autocomplete="off"></label> <span role="status"></span>';
      const [input, status] = [bar.querySelector("input"), bar.querySelector("span")];
      const apply = () => {
        const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
        rows.forEach((row) => { row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word)); });
        status.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
      };
      input.addEventListener("input", apply);
      (table.closest(".table-box") || table).before(bar);
      apply();
    });
  }

  // Give the controls of a widget the names that its script does not write.
  function nameControls(root) {
    root.querySelectorAll(".noUi-handle:not([aria-label])").forEach((handle) => {
      const label = handle.closest(".widget-slider")?.querySelector(".widget-label");
      handle.setAttribute("aria-label", label?.textContent?.trim() || "Position");
      if (!handle.getAttribute("aria-orientation")) handle.setAttribute("aria-orientation", "horizontal");
    });
    root.querySelectorAll(".jupyter-widgets.widget-play button:not([aria-label])").forEach((button) => {
      const icon = button.querySelector("[class*='fa-']")?.className?.toString() || "";
      button.setAttribute("aria-label", button.title || (icon.includes("stop") ? "Back to the start" : "Play or pause"));
    });
  }

  // Names and roles that the theme and Sphinx leave wrong.
  function repairTheme() {
    document.querySelectorAll(".search-button-field").forEach((button) => {
      button.setAttribute("aria-label", button.textContent.replace(/\s+/g, " ").trim()); // what is seen is what is read
    });
    const plainIcons = (button) => button.querySelectorAll("svg").forEach((icon) => {
      icon.querySelector("title")?.remove(); // the button has a name; its three icons need none
      icon.removeAttribute("aria-labelledby");
      icon.setAttribute("aria-hidden", "true");
    });
    document.querySelectorAll(".theme-switch-button").forEach((button) => {
      plainIcons(button);
      new MutationObserver(() => plainIcons(button)).observe(button, { childList: true });
    });
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
    nameControls(document);
    const article = document.querySelector(".bd-article") || document.body;
    new MutationObserver(() => nameControls(article)).observe(article, { childList: true, subtree: true });
    window.addEventListener("resize", focusableBoxes);
    window.MathJax?.startup?.promise?.then(focusableBoxes);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
