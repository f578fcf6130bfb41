// Formulas in TeX to MathML, as the site's own MathJax reads them: a list of [tex, display] in, a list of texts out (JSON).
"use strict";
const { readFileSync } = require("node:fs");
const { join } = require("node:path");

const mathjax = require(join(__dirname, "..", "..", "node_modules", "mathjax", "es5", "node-main.js"));
const extensions = ["[tex]/ams", "[tex]/newcommand", "[tex]/noundefined"];

mathjax
  .init({ loader: { load: ["input/tex-base", ...extensions] }, tex: { packages: ["base", "ams", "newcommand"] } })
  .then((MathJax) => {
    const formulas = JSON.parse(readFileSync(0, "utf8"));
    process.stdout.write(JSON.stringify(formulas.map(([tex, display]) => MathJax.tex2mml(tex, { display }))));
  });
