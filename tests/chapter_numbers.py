"""The rule that numbers in the text come from outputs: ``glue`` them, do not type them.

A number of the prose is suspect when it is a decimal, carries a unit, or reads "13 of 16". It is refused when an
output of the same notebook has that value (outputs are rounded to the digits that the prose shows). Mathematics,
code, links and roles are not prose. A number that only happens to agree, or a setting, is allowed by the cell's
metadata: ``"typed-numbers": {"0.1": "the reason"}``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chapter_rules import RECORD, Notebook, cells_of, outputs_of, text_of

UNIT = r"dB|%|percent|per cent|ms|seconds|s|MB|kB|GB"
NUMBER = re.compile(rf"(?<![\w.,/:-])([-−–]?\d[\d,]*(?:\.\d+)?)(?:[  ]?({UNIT})(?![\w]))?(?![\w]|\.\d)")
FRACTION = re.compile(r"(?<![\w.])(\d+) of (?:the )?(\d+)(?![\w]|\.\d)")

NOT_PROSE = [
    r"(?s)<!--.*?-->",
    r"(?ms)^(`{3,}|~{3,})(?!\{)[^\n]*\n.*?^\1",  # code
    r"(?ms)^(`{3,}|:{3,})\{(?:code|code-block|code-cell|math|eval-rst|bibliography|list-table)[^}]*\}.*?^\1",
    r"(?m)^[ \t]*(?:`{3,}|:{3,})[^\n]*$",  # the fence of a directive; its body is prose
    r"(?m)^[ \t]*:[\w-]+:[^\n]*$",  # an option of a directive
    r"(?s)\$\$.*?\$\$",
    r"\$[^$\n]+\$",
    r"(?s)\\begin\{(\w+\*?)\}.*?\\end\{\1\}",
    r"(?:\{[\w:+.-]+\})?`[^`]*`",  # code and roles
    r"\]\([^)]*\)",
    r"https?://\S+",
    r"(?i)arxiv:\S+",
    r"(?:Python|PyTorch|version|CC BY|section|Section|chapter|Chapter|Figure|Table|equation|eq\.) ?v?\d[\d.]*",
    r"(?:Reading|Running)\W{1,6}\d+ (?:min|s)\b",
    r"<[^>]+>",
]


@dataclass(frozen=True)
class Number:
    """A number as it is written: its text, value, digits after the point, and unit."""

    text: str
    value: float
    decimals: int
    unit: str

    @property
    def digits(self) -> int:
        """Count the significant digits."""
        return len(re.sub(r"\D", "", self.text).lstrip("0"))


def numbers_in(text: str) -> list[Number]:
    """Read every number of a text."""
    found = []
    for match in NUMBER.finditer(text):
        written, unit = match.group(1), match.group(2) or ""
        plain = re.sub(r"[−–]", "-", written).replace(",", "")
        decimals = len(plain.partition(".")[2])
        found.append(
            Number(
                written, abs(float(plain)), decimals, {"per cent": "%", "percent": "%", "seconds": "s"}.get(unit, unit)
            )
        )
    return found


def strip_to_prose(text: str) -> str:
    """Remove what is not prose from the source of a Markdown cell."""
    for pattern in NOT_PROSE:
        text = re.sub(pattern, " ", text)
    return text


def output_text(notebook: Notebook) -> str:
    """Join everything that the cells print, show as text or glue."""
    parts: list[str] = []
    for _, _, output in outputs_of(notebook):
        parts.append("".join(output.get("text", "")))
        data = output.get("data", {})
        kinds = ("text/plain", "text/html", "text/markdown", RECORD + "text/plain")
        parts += ["".join(data[kind]) for kind in kinds if kind in data]
    text = "\n".join(part.strip("'\"") for part in parts)
    return re.sub(r"<Figure size [^>]*>|<[^>]+>", " ", text)


def same(typed: Number, printed: Number) -> bool:
    """Tell whether a typed number may be a copy of a printed one."""
    if typed.decimals == 0 and typed.unit != printed.unit and printed.decimals == 0:
        return False
    if typed.unit and printed.unit and typed.unit != printed.unit:
        return False
    if typed.value == printed.value:
        return True
    return (
        typed.digits >= 2 and printed.decimals > typed.decimals and typed.value == round(printed.value, typed.decimals)
    )


def typed_numbers(notebook: Notebook) -> list[str]:
    """Refuse numbers typed into the prose that an output of the notebook has."""
    outputs = output_text(notebook)
    printed = numbers_in(outputs)
    fractions = {match.groups() for match in FRACTION.finditer(outputs)}
    complaints = []
    for position, cell in cells_of(notebook, "markdown"):
        allowed = {
            key for key, reason in cell.get("metadata", {}).get("typed-numbers", {}).items() if str(reason).strip()
        }
        prose = strip_to_prose(text_of(cell))
        suspects = [number for number in numbers_in(prose) if number.decimals or number.unit]
        copies = [
            f"{n.text} {n.unit}".strip() for n in suspects if n.text not in allowed and any(same(n, p) for p in printed)
        ]
        copies += [m.group() for m in FRACTION.finditer(prose) if m.groups() in fractions and m.group() not in allowed]
        complaints += [f"cell {position}: '{copy}' is typed, and an output has it; glue it" for copy in copies]
    return complaints
