"""The catalogue as files: CSV, BibTeX, and both in a script, from which the page makes files of what is shown."""

from __future__ import annotations

import csv
import io
import json
import re

from gilib_catalogue.bibliography import Reference
from gilib_catalogue.runs import Here
from gilib_catalogue.works import Work

COLUMNS = (
    *("key", "title", "first_authors", "year", "venue", "arxiv", "doi", "url", "kind", "inverts", "family", "modality"),
    *(
        "setting",
        "access",
        "threat_model",
        "stops",
        "max_batch",
        "resolution",
        "code",
        "run_in",
        "idea_in",
        "cited_in",
        "open",
    ),
)


def csv_lines(works: list[Work], here: dict[str, Here]) -> dict[str, str]:
    """The lines of the CSV file by key, the head under the empty key. What nobody checked is left out."""
    lines = {"": _line(COLUMNS)}
    for work in works:
        ours = here[work.key]
        first = (
            work.key,
            work.title,
            work.shown_authors,
            work.year,
            work.venue,
            work.shown_arxiv,
            work.doi,
            work.shown_url,
        )
        what = (
            work.kind,
            work.field,
            work.family,
            work.modality,
            work.setting,
            work.access,
            work.threat_model,
            work.stops,
        )
        last = (
            work.max_batch,
            work.resolution,
            work.code,
            *map(";".join, (ours.run, ours.idea, ours.cited, work.open)),
        )
        lines[work.key] = _line((*first, *what, *last))
    return lines


def _line(cells: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def bibtex_entries(works: list[Work], references: dict[str, Reference]) -> dict[str, str]:
    """An entry for each work by key: the book's own where it has one, else one with what is known and checked."""
    return {work.key: _ours(work, references[work.bib]) if work.bib else _entry(work) for work in works}


def _ours(work: Work, reference: Reference) -> str:
    return reference.entry.to_string("bibtex").strip() + "\n"


def _entry(work: Work) -> str:
    fields = {
        "title": "{" + _escaped(work.title) + "}",
        "author": re.sub(r" et al\.$", " and others", work.shown_authors),
        "year": work.year,
        "howpublished": _escaped(work.venue),
        "eprint": work.shown_arxiv,
        "archivePrefix": "arXiv" if work.shown_arxiv else "",
        "doi": work.doi,
        "url": work.shown_url,
    }
    lines = [f"    {name} = {{{value}}}" for name, value in fields.items() if value]
    return f"@misc{{{work.key},\n" + ",\n".join(lines) + "\n}\n"


def _escaped(text: str) -> str:
    return re.sub(r"([&%#_$])", r"\\\1", text)


def files(works: list[Work], here: dict[str, Here], references: dict[str, Reference]) -> dict[str, str]:
    """Names and contents of the files beside the page."""
    lines, entries = csv_lines(works, here), bibtex_entries(works, references)
    data = {"csv": lines, "bib": {"": "", **entries}}
    return {
        "catalogue.csv": "".join(lines.values()),
        "catalogue.bib": "\n".join(entries.values()),
        "catalogue-files.js": f"window.gilibWorks = {json.dumps(data, ensure_ascii=False)};\n",
    }
