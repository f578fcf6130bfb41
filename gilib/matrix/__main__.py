"""Run the matrix: ``python -m gilib.matrix`` (see ``--help``)."""

import sys
from pathlib import Path

from gilib.matrix import matrix, tried
from gilib.studies import carry_out
from gilib.studies.command import parser

RESULTS = Path("bench/matrix.jsonl")


def main(words: list[str] | None = None) -> int:
    """Run what is missing and say what happens."""
    options = parser("gilib.matrix", "The book's attacks against its defenses, over stages, rounds, widths and scenes.")
    options.add_argument("--out", type=Path, default=RESULTS, help=f"where results are kept (default: {RESULTS})")
    chosen = options.parse_args(words)
    return carry_out([*tried(), *matrix()], chosen.out, chosen)


if __name__ == "__main__":
    sys.exit(main())
