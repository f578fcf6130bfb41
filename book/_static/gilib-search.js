// The page of the search: other spellings of names, and excerpts without raw formulas. Loaded on that page only.
(function () {
  "use strict";

  const plain = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "");
  const spaced = (text) => ` ${text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ").trim()} `;

  // The name of the index that is meant: "rgap" is "r-gap", "the dlg attack" is about "dlg". Otherwise what was typed.
  function meant(query) {
    const names = Object.entries(Search._index.indexentries).filter(([, pages]) => pages.some(([, , main]) => main)).map(([name]) => name);
    const same = names.find((name) => plain(name) === plain(query));
    const inside = names.filter((name) => spaced(query).includes(spaced(name))).sort((a, b) => b.length - a.length);
    return same || inside[0] || query;
  }

  const find = Search._performSearch;
  Search._performSearch = (query, ...words) => find(meant(query), ...words);

  // Prose first, code after it, and no source of formulas: an excerpt begins where the word stands first.
  const read = Search.htmlToText;
  Search.htmlToText = (source, anchor) => {
    const page = new DOMParser().parseFromString(source, "text/html");
    page.querySelectorAll(".math").forEach((formula) => formula.replaceWith("…"));
    page.querySelectorAll("[role=main] .toggle-button, [role=main] noscript, [role=main] svg").forEach((idle) => idle.remove());
    const main = page.querySelector("[role=main]");
    if (main) main.append(...main.querySelectorAll(".cell_input, .cell_output"));
    return read(page.documentElement.outerHTML, anchor).replace(/\s+/g, " ");
  };
})();
