"""Run the matrix: ``python -m gilib.matrix`` (see ``--help``)."""

import sys
from pathlib import Path

from gilib.matrix import ATTACKS, DEFENSES, cells
from gilib.studies import carry_out
from gilib.studies.command import parser

RESULTS = Path("bench/matrix.jsonl")


def main(words: list[str] | None = None) -> int:
    """Run what is missing and say what happens."""
    options = parser(
        "gilib.matrix", "Every attack of the book against every defense, plain and adaptive, at two stages of training."
    )
    options.add_argument("--out", type=Path, default=RESULTS, help=f"where results are kept (default: {RESULTS})")
    chosen = options.parse_args(words)
    return carry_out(cells(ATTACKS, DEFENSES), chosen.out, chosen)


if __name__ == "__main__":
    sys.exit(main())
