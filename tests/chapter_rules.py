"""The rules of a chapter, each a function from a notebook to a list of complaints (empty: the rule holds)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Notebook = dict[str, Any]
Cell = dict[str, Any]

MAX_CODE_LINES = 25
MAX_CODE_IN_A_ROW = 2
MAX_BYTES = 2_000_000
MAX_IGNORED = 2
IMAGES = ("image/png", "image/jpeg", "image/svg+xml")
RECORD = "application/papermill.record/"
STATE = "application/vnd.jupyter.widget-state+json"

FRAME = {
    "a title": r"\A\s*# \S",
    "'You will be able to'": r"You will be able to",
    "'Before you start'": r"Before you start",
    "'Reading: N min'": r"Reading\W{1,6}\d+ min",
    "'Running: N s'": r"Running\W{1,6}\d+ s\b",
    "the threat model": r"(?i)threat model",
    "the section 'What it costs'": r"(?m)^##+ .*What it costs",
    "the section 'What it means'": r"(?m)^##+ .*What it means",
    "the section 'Summary'": r"(?m)^##+ .*Summary",
    "the section 'Exercises'": r"(?m)^##+ .*Exercises",
    "the section 'Further reading'": r"(?m)^##+ .*Further reading",
}


def text_of(cell: Cell) -> str:
    """Return the source of a cell as one string."""
    source = cell.get("source", "")
    return "".join(source) if isinstance(source, list) else source


def cells_of(notebook: Notebook, kind: str) -> Iterator[tuple[int, Cell]]:
    """Yield (position, cell) of every cell of one kind; positions count from 0."""
    return ((i, cell) for i, cell in enumerate(notebook["cells"]) if cell["cell_type"] == kind)


def outputs_of(notebook: Notebook) -> Iterator[tuple[int, Cell, dict[str, Any]]]:
    """Yield (position, cell, output) of every stored output."""
    return ((i, cell, output) for i, cell in cells_of(notebook, "code") for output in cell.get("outputs", []))


def prose_of(notebook: Notebook) -> str:
    """Join all Markdown cells."""
    return "\n\n".join(text_of(cell) for _, cell in cells_of(notebook, "markdown"))


def executed_in_order(notebook: Notebook) -> list[str]:
    """Demand execution counts 1..n over the code cells."""
    counts = [cell.get("execution_count") for _, cell in cells_of(notebook, "code")]
    if counts == list(range(1, len(counts) + 1)):
        return []
    return [f"expected execution counts 1 to {len(counts)}, got {counts}; run: make execute"]


def outputs_stored(notebook: Notebook) -> list[str]:
    """Demand that the notebook holds outputs at all, and no error among them that no tag announces."""
    complaints = [] if any(True for _ in outputs_of(notebook)) else ["no stored output; run: make execute"]
    for position, cell, output in outputs_of(notebook):
        tags = cell.get("metadata", {}).get("tags", [])
        if output["output_type"] == "error" and "raises-exception" not in tags:
            complaints.append(f"cell {position}: a stored {output.get('ename')}")
    return complaints


def no_stderr(notebook: Notebook) -> list[str]:
    """Refuse stored warnings and progress bars."""
    return [f"cell {i}: output on stderr" for i, _, output in outputs_of(notebook) if output.get("name") == "stderr"]


def figures_described(notebook: Notebook) -> list[str]:
    """Demand alternative text, a caption and a name for every picture, and refuse SVG, which cannot be compared."""
    complaints = []
    for position, cell, output in outputs_of(notebook):
        kinds = [kind for kind in IMAGES if kind in output.get("data", {})]
        if not kinds:
            continue
        mystnb = cell.get("metadata", {}).get("mystnb", {})
        wanted = {
            "image.alt": mystnb.get("image", {}).get("alt"),
            "figure.caption": mystnb.get("figure", {}).get("caption"),
        }
        wanted["figure.name"] = mystnb.get("figure", {}).get("name")
        complaints += [
            f"cell {position}: a picture without {key} in its metadata" for key, value in wanted.items() if not value
        ]
        if "image/svg+xml" in kinds:
            complaints.append(f"cell {position}: an SVG output; store PNG")
    return complaints + _pictures_in_text(notebook) + _frames_of_widgets(notebook)


def _pictures_in_text(notebook: Notebook) -> list[str]:
    complaints = []
    for position, cell in cells_of(notebook, "markdown"):
        text = text_of(cell)
        if re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=\"[^\"])", text):
            complaints.append(f"cell {position}: a picture in the text without alternative text")
        directives = re.findall(r"(?ms)^(?:```|:::)\{(?:image|figure)\}(.*?)^(?:```|:::)", text)
        complaints += [
            f"cell {position}: a picture without :alt:" for body in directives if not re.search(r":alt: *\S", body)
        ]
    return complaints


def _frames_of_widgets(notebook: Notebook) -> list[str]:
    models = notebook.get("metadata", {}).get("widgets", {}).get(STATE, {}).get("state", {})
    values = [model.get("state", {}).get("value") for model in models.values()]
    html = " ".join(value for value in values if isinstance(value, str))
    bare = len(re.findall(r"<img(?![^>]*\balt=\"[^\"])", html))
    plain = sum(
        model.get("model_name", model.get("state", {}).get("_model_name")) == "ImageModel" for model in models.values()
    )
    return [f"{bare + plain} pictures of a widget without alternative text"] if bare + plain else []


def short_code_cells(notebook: Notebook) -> list[str]:
    """Refuse code cells over 25 lines."""
    lengths = {i: len(text_of(cell).strip().splitlines()) for i, cell in cells_of(notebook, "code")}
    return [f"cell {i}: {n} lines of code, at most {MAX_CODE_LINES}" for i, n in lengths.items() if n > MAX_CODE_LINES]


def words_between_code(notebook: Notebook) -> list[str]:
    """Refuse more than two code cells without a word between them."""
    complaints, run = [], 0
    for position, cell in enumerate(notebook["cells"]):
        run = run + 1 if cell["cell_type"] == "code" else 0
        if run == MAX_CODE_IN_A_ROW + 1:
            complaints.append(f"cell {position}: more than {MAX_CODE_IN_A_ROW} code cells in a row")
    return complaints


def frame_complete(notebook: Notebook) -> list[str]:
    """Demand every part of the frame of a chapter."""
    text = prose_of(notebook)
    return [f"the chapter lacks {part}" for part, pattern in FRAME.items() if not re.search(pattern, text)]


def exercises_solved(notebook: Notebook) -> list[str]:
    """Demand an exercise, and for each one a solution that opens by a click."""
    text = prose_of(notebook)
    labels = re.findall(r"\{exercise(?:-start)?\}[^\n]*\n(?::[^\n]*\n)*?:label: *(\S+)", text)
    complaints = [] if labels else ["no exercise with a :label:"]
    if len(re.findall(r"\{exercise(?:-start)?\}", text)) > len(labels):
        complaints.append("an exercise without a :label:")
    for label in labels:
        pattern = rf"\{{solution(?:-start)?\}} *{re.escape(label)} *\n(?::[^\n]*\n)*?:class: *[^\n]*dropdown"
        if not re.search(pattern, text):
            complaints.append(f"the exercise {label} has no solution with ':class: dropdown'")
    return complaints


def ignored_outputs(notebook: Notebook) -> list[str]:
    """Demand a reason for every output that is not compared, at most two of them, and no cell that is not run."""
    complaints, ignored = [], 0
    for position, cell in cells_of(notebook, "code"):
        tags, metadata = cell.get("metadata", {}).get("tags", []), cell.get("metadata", {})
        if "nbval-skip" in tags or "NBVAL_" in text_of(cell):
            complaints.append(f"cell {position}: skips its comparison; use the tag nbval-ignore-output with a reason")
        if "nbval-ignore-output" in tags:
            ignored += 1
            if not str(metadata.get("reason", "")).strip():
                complaints.append(f"cell {position}: nbval-ignore-output without a 'reason' in the metadata")
    if ignored > MAX_IGNORED:
        complaints.append(f"{ignored} ignored outputs, at most {MAX_IGNORED}")
    return complaints


def glued_as_text(notebook: Notebook) -> list[str]:
    """Refuse glued numbers: what is glued is a formatted string, which is compared as it is printed."""
    complaints = []
    for position, _, output in outputs_of(notebook):
        plain = output.get("data", {}).get(RECORD + "text/plain") or ""
        plain = "".join(plain)
        if re.match(r"[-+\d.]|tensor|array|np\.|True|False", plain):
            complaints.append(f"cell {position}: glued {plain[:30]}, which is not a formatted string")
    return complaints


def summary_of(notebook: Notebook) -> str:
    """The section 'Summary', up to the next heading of the same rank."""
    found = re.search(r"(?ms)^## +Summary *\n(.*?)(?=^## |\Z)", prose_of(notebook))
    return found.group(1) if found else ""


def summary_names_its_evidence(notebook: Notebook) -> list[str]:
    """Demand that every claim of the summary (a bullet, or a row of a table) points to a figure or section here."""
    labels = set(re.findall(r"(?m)^\(([\w-]+)\)=", prose_of(notebook)))
    labels |= set(re.findall(r":(?:label|name): *(\S+)", prose_of(notebook)))
    labels |= set(re.findall(r"(?m)^\$\$ *\(([\w-]+)\)", prose_of(notebook)))
    for _, cell in cells_of(notebook, "code"):
        labels |= {cell.get("metadata", {}).get("mystnb", {}).get("figure", {}).get("name")}
    claims = re.split(r"(?m)^(?=[-*] )", summary_of(notebook))[1:] or _rows(summary_of(notebook))
    complaints = [] if claims else ["the summary has no bullets"]
    for claim in claims:
        named = re.findall(r"\{(?:numref|ref|eq)\}`(?:[^`<]*<)?([^`>]+)>?`", claim)
        if not any(name in labels for name in named):
            complaints.append(f"the summary points to no figure or section of this chapter: {claim[:80].strip()}")
    return complaints


def _rows(text: str) -> list[str]:
    """The rows of a table below its head."""
    return [line for line in text.splitlines() if line.startswith("|")][2:]


def summary_says_what_it_was_measured_on(notebook: Notebook) -> list[str]:
    """Demand one sentence on victims and networks, and how many seeds: what a claim of the summary rests on."""
    found = re.search(r"(?m)^\*Measured on\*:[^\n]*(?:\n(?!\n|[-*|]).*)*", summary_of(notebook))
    if not found:
        return ["the summary lacks the line '*Measured on*: victims, networks, seeds'"]
    rest, seeds = re.subn(r"(?i)\S+ seeds?\b", "", found.group())
    complaints = [] if seeds else ["'*Measured on*' says nothing about seeds"]
    counted = re.search(rf"(?i)\d|glue:text|\b(?:{NUMBERS})\b", rest)
    return complaints if counted else [*complaints, "'*Measured on*' says not how many victims"]


NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|twelve|sixteen|twenty|thirty|sixty|hundred"

RULES = [
    executed_in_order,
    outputs_stored,
    no_stderr,
    figures_described,
    short_code_cells,
    words_between_code,
    frame_complete,
    exercises_solved,
    ignored_outputs,
    glued_as_text,
    summary_names_its_evidence,
    summary_says_what_it_was_measured_on,
]
