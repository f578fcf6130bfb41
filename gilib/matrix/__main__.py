"""Run the matrix: ``python -m gilib.matrix`` (see ``--help``)."""

import sys
from pathlib import Path

from gilib.matrix import matrix, pictures, tried
from gilib.matrix.measure import AttackCell
from gilib.matrix.plan import pictured
from gilib.studies import carry_out, load
from gilib.studies.command import parser

RESULTS = Path("bench/matrix.jsonl")
SHEETS = Path("bench/matrix-pictures")


def main(words: list[str] | None = None) -> int:
    """Run what is missing and say what happens."""
    options = parser("gilib.matrix", "The book's attacks against its defenses, over stages, rounds, widths and scenes.")
    options.add_argument("--out", type=Path, default=RESULTS, help=f"where results are kept (default: {RESULTS})")
    options.add_argument(
        "--pictures",
        action="store_true",
        help=f"only what came back on digits, as pictures in {SHEETS}, by one process",
    )
    chosen = options.parse_args(words)
    return draw(chosen.out, chosen.missing) if chosen.pictures else carry_out([*tried(), *matrix()], chosen.out, chosen)


def draw(results: Path, ask: bool) -> int:
    """Draw what the sheets lack, or only say how much, and return the exit code: 130 when stopped."""
    known = {one["key"]: one for one in load(results)}
    cells = pictured()
    lacking = len(list(pictures.missing(cells, known, SHEETS)))
    print(f"{len(cells)} cells, the pictures of {lacking} of them missing in {SHEETS}", flush=True)

    def say(done: int, count: int, cell: AttackCell) -> None:
        print(f"{done:4} of {count}: {cell.title}", flush=True)

    try:
        if not ask:
            pictures.draw(cells, known, SHEETS, say)
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept; run the same command to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
