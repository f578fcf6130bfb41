"""Two pictures of the catalogue, drawn without a script: when works appeared, and the taxonomy with what is run."""

from __future__ import annotations

from collections import Counter
from urllib.parse import quote

from gilib_catalogue import taxonomy
from gilib_catalogue.runs import Here
from gilib_catalogue.works import Work

FIRST_YEAR = 2018  # everything before it shares a column
LABELS, ROW = 30, 22  # width of the labels in percent, height of a row in pixels
ATTACKS, DEFENSES = tuple(taxonomy.FAMILIES)[:6], tuple(taxonomy.FAMILIES)[6:11]
REST = "other"


def year_rows(works: list[Work]) -> dict[str, Counter[int]]:
    """How many works each row of the picture of years has, by year; the names are unique."""
    rows: dict[str, Counter[int]] = {f"{name} (a)": Counter() for name in ATTACKS}
    rows |= (
        {"other attacks": Counter()} | {f"{name} (d)": Counter() for name in DEFENSES} | {"other defenses": Counter()}
    )
    rows |= {"surveys": Counter(), "evaluations": Counter(), "tools, background": Counter()}
    for work in works:
        rows[_year_row(work)][max(int(work.year), FIRST_YEAR)] += 1
    return rows


def _year_row(work: Work) -> str:
    if work.kind not in ("attack", "defense"):
        return {"survey": "surveys", "evaluation": "evaluations"}.get(work.kind, "tools, background")
    families = ATTACKS if work.kind == "attack" else DEFENSES
    own = work.field == "gradient" and work.family in families
    return f"{work.family} ({work.kind[0]})" if own else f"other {work.kind}s"


def years(works: list[Work]) -> str:
    """Works by year and family: an SVG whose text keeps its size on a phone."""
    rows = year_rows(works)
    columns = list(range(FIRST_YEAR, max(int(work.year) for work in works) + 1))
    width = (100 - LABELS) / len(columns)
    most = max(count for row in rows.values() for count in row.values())
    total: Counter[int] = sum(rows.values(), Counter())
    drawn = [_year_label(LABELS + (i + 0.5) * width, year) for i, year in enumerate(columns)]
    for line, (name, row) in enumerate([*rows.items(), ("all", total)]):
        y = (line + 1) * ROW + (6 if name == "all" else 0)
        drawn.append(f'<text x="0" y="{y + 15}">{name}</text>')
        for i, year in enumerate(columns):
            if row[year]:
                drawn.append(_year_cell(LABELS + i * width, y, width, row[year], most if name != "all" else 0))
    size = f'width="100%" height="{(len(rows) + 2) * ROW + 8}"'
    return f'<svg class="gilib-years" role="img" aria-label="{_alternative(rows, total)}" {size}>{"".join(drawn)}</svg>'


def _year_label(x: float, year: int) -> str:
    text = f"’{year % 100}"
    return f'<text class="year" x="{x:.2f}%" y="15">{"≤" if year == FIRST_YEAR else ""}{text}</text>'


def _year_cell(x: float, y: int, width: float, count: int, most: int) -> str:
    text = f'<text class="year" x="{x + width / 2:.2f}%" y="{y + 15}">{count}</text>'
    if not most:
        return text
    box = f'x="{x + 0.2:.2f}%" y="{y}" width="{width - 0.4:.2f}%" height="{ROW - 2}"'
    return f'<rect {box} fill-opacity="{0.08 + 0.42 * count / most:.2f}"/>{text}'


def _alternative(rows: dict[str, Counter[int]], total: Counter[int]) -> str:
    """What the picture shows, in words: the totals of years and of rows."""
    by_year = ", ".join(f"{'up to ' if year == FIRST_YEAR else ''}{year}: {total[year]}" for year in sorted(total))
    by_row = ", ".join(
        f"{name.replace(' (a)', ' attacks').replace(' (d)', ' defenses')} {row.total()}" for name, row in rows.items()
    )
    what = "A grid of works by family and year, stronger in colour where there are more"
    return f"{what}. By year: {by_year}. By family: {by_row}."


def cells(works: list[Work], here: dict[str, Here], group: taxonomy.Group) -> dict[str, Counter[str]]:
    """How many works each cell of a row of the map has, and how many of them are run, run as an idea, or cited."""
    found: dict[str, Counter[str]] = {}
    for name in group.order:
        members = [one for one in works if one.kind == group.kind and group.field in ("", one.field)]
        members = [one for one in members if getattr(one, group.column) == name]
        if members:
            found[name] = Counter(here[one.key].status or "no" for one in members)
    return found


def taxonomy_map(works: list[Work], here: dict[str, Here]) -> str:
    """The taxonomy as boxes with the number of works, and how many of them the book runs.

    A box leads to its works; to the table where no script makes the choice.
    """
    rows = []
    for group in taxonomy.GROUPS:
        found = cells(works, here, group)
        if found:
            boxes = "".join(_box(group, name, counts) for name, counts in found.items())
            rows.append(f"<div><dt>{group.title}</dt><dd>{boxes}</dd></div>")
    return f'<dl class="gilib-map">{"".join(rows)}</dl>'


def _box(group: taxonomy.Group, name: str, counts: Counter[str]) -> str:
    where = {"kind": group.kind} | ({"field": group.field} if group.field else {}) | {group.column: name}
    choice = "&amp;".join(f"{key}={quote(value)}" for key, value in where.items())
    share = 100 / counts.total()
    run, idea = counts["run"] * share, (counts["run"] + counts["idea"]) * share
    said = [f"{counts[status]} {status}" for status in ("run", "idea") if counts[status]]
    bar = f'<i style="--run:{run:.0f}%;--idea:{idea:.0f}%"></i>'
    kind = " gilib-none" if not said else ""
    text = f"<span>{counts.total()} work{'s' if counts.total() > 1 else ''}</span>"
    if said:
        text += f" <span>{', '.join(said)}</span>"
    return f'<a class="gilib-box{kind}" href="#all-works" data-choice="{choice}"><b>{name}</b> {text}{bar}</a>'
