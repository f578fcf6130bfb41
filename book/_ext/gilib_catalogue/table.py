"""The table of all works as HTML, with the form that filters it."""

from __future__ import annotations

from html import escape

from gilib_catalogue import taxonomy
from gilib_catalogue.markup import chapter_links, link
from gilib_catalogue.runs import Here
from gilib_catalogue.works import Work

# Heading, and the facet that its cells filter by.
HEADS = (
    ("Work", "open"),
    ("Year", "year"),
    ("In this book", "here"),
    ("Venue", ""),
    ("Kind", "kind"),
    ("Inverts", "field"),
    ("Family", "family"),
    ("Modality", "modality"),
    ("Setting", "setting"),
    ("Access", "access"),
    ("Threat model", "threat"),
    ("Stops", "stops"),
    ("Code", "code"),
)
# Facet, label, its options; those of the second part are folded away.
FACETS = (
    ("kind", "Kind", tuple(taxonomy.KINDS)),
    ("field", "Inverts", tuple(taxonomy.FIELDS)),
    ("family", "Family", tuple(taxonomy.FAMILIES)),
    ("here", "In this book", ("run", "idea", "cited", "no")),
)
MORE = (
    ("modality", "Modality", taxonomy.MODALITIES),
    ("setting", "Setting", taxonomy.SETTINGS),
    ("access", "Access", taxonomy.ACCESS),
    ("threat", "Threat model", tuple(taxonomy.LETTERS)),
    ("stops", "Stops", tuple(taxonomy.LETTERS)),
    ("code", "Code", ("code",)),
    ("open", "Open cells", ("author", "arXiv number", "link")),
)
RANK = {"run": "1", "idea": "2", "cited": "3", "": ""}


def form(works: list[Work]) -> str:
    """The filters; hidden until a script works them."""
    years = tuple(sorted({work.year for work in works}, reverse=True))
    first = _search() + "".join(_select(*facet) for facet in FACETS)
    more = "".join(_select(*facet) for facet in (("year", "Year", years), *MORE))
    return f"""<form class="gilib-works-form" hidden aria-label="Filter the works">
<div class="gilib-works-facets">{first}</div>
<details><summary>More filters</summary><div class="gilib-works-facets">{more}</div></details>
<p class="gilib-works-bar"><span role="status"></span>
<button type="reset">Show all</button></p></form>"""


def files() -> str:
    """The links to the files: whole without scripts, of what is shown with them."""
    links = [link(f"catalogue.{kind}", name, download="") for kind, name in (("csv", "CSV"), ("bib", "BibTeX"))]
    return f'<p class="gilib-works-files">Download what is shown: {" · ".join(links)}</p>'


def _search() -> str:
    return (
        '<label class="gilib-works-words">Words in title, authors, venue'
        '<input type="search" name="q" autocomplete="off" spellcheck="false"></label>'
    )


def _select(name: str, label: str, options: tuple[str, ...]) -> str:
    choices = "".join(f'<option value="{escape(option)}">{escape(option)}</option>' for option in options)
    return f'<label>{label}<select name="{name}"><option value="">any</option>{choices}</select></label>'


def table(works: list[Work], here: dict[str, Here]) -> str:
    """The table: complete without scripts, sortable and filtered with them."""
    heads = "".join(f'<th scope="col"{_facet(facet)}>{text}</th>' for text, facet in HEADS)
    body = "\n".join(row(work, here[work.key]) for work in works)
    return f"""<div class="table-box gilib-works-box" role="region" aria-label="The works" tabindex="0">
<table class="sortable asc n-last gilib-works"><caption>The works of the catalogue</caption>
<thead><tr>{heads}</tr></thead><tbody>
{body}
</tbody></table></div>"""


def _facet(name: str) -> str:
    return f' data-facet="{name}"' if name else ""


def row(work: Work, here: Here) -> str:
    """A work as a line of the table; a cell that says more than its values carries them as data."""
    columns = ("kind", "field", "family"), ("modality", "setting", "access", "threat_model", "stops")
    plain = [[_cell(", ".join(work.values(column))) for column in part] for part in columns]
    code = link(work.code, "code", title=f"Code of {work.key}") if work.code else ""
    cells = [_title(work), _cell(work.year), _here(here), _cell(escape(work.venue)), *plain[0], *plain[1], _cell(code)]
    return f'<tr id="work-{work.key}" data-venue="{escape(work.venue)}">{"".join(cells)}</tr>'


def _cell(text: str, **attributes: str) -> str:
    more = "".join(f' data-{name}="{escape(value)}"' for name, value in attributes.items())
    return f"<td{more}>{text}</td>"


def _title(work: Work) -> str:
    title = link(work.shown_url, work.title) if work.shown_url else escape(work.title)
    parts = [title]
    if work.shown_authors:
        parts.append(f"<span>{escape(work.shown_authors)}</span>")
    if work.note:
        parts.append(f"<small>{escape(work.note)}</small>")
    if work.open:
        parts.append(f'<a class="gilib-open" href="#open-cells">open: {", ".join(work.open)}</a>')
    return _cell(" ".join(parts), values=", ".join(work.open))


def _here(here: Here) -> str:
    parts = []
    if here.run:
        parts.append(f"<b>run</b>: {chapter_links(here.run)}")
    if here.idea:
        parts.append(f"<b>its idea</b>: {chapter_links(here.idea)}")
    if here.cited:
        few = len(here.cited) <= 2
        links = chapter_links(here.cited)
        text = f"cited: {links}" if few else f"<details><summary>cited in {len(here.cited)}</summary>{links}</details>"
        parts.append(text)
    return _cell("<br>".join(parts), values=here.status or "no", sort=RANK[here.status])
