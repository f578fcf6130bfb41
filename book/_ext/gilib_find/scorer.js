// What counts how much in a search. A page comes before a function: names of methods lead to their chapter (100, Sphinx),
// then titles, then a function of that very name, then pages that mention the word, then functions whose names contain it.
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 1,
  objPrio: { 0: 0, 1: 0, 2: 0 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  // Of pages that mention a word alike, chapters first, then the rest, then the reference.
  score: ([name, , , description, score]) => {
    if (description) return score;
    return score + (name.startsWith("chapters/") ? 0.5 : name.startsWith("book/api/") ? -0.5 : 0);
  },
};
