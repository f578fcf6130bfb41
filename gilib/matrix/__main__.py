"""Run the matrix: ``python -m gilib.matrix`` (see ``--help``)."""

import argparse
import sys
from pathlib import Path

from joblib.externals.loky.process_executor import TerminatedWorkerError

from gilib.matrix import ATTACKS, DEFENSES, Cell, cells, load, run

RESULTS = Path("bench/matrix.jsonl")


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m gilib.matrix",
        description="Every attack of the book against every defense, plain and adaptive, at two stages of training. "
        "Results that are there already are kept, so an interrupted run goes on where it stopped.",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"where results are kept (default: {RESULTS})")
    parser.add_argument("--jobs", type=int, default=2, help="processes on this machine (default: 2)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a Dask cluster instead, such as tcp://127.0.0.1:8786")
    parser.add_argument("--missing", action="store_true", help="only say how many cells are missing")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run what is missing and say what happens."""
    chosen = arguments(words)
    every = cells(ATTACKS, DEFENSES)
    there = {result["key"] for result in load(chosen.out)}
    missing = [cell for cell in every if cell.key not in there]
    print(f"{len(every)} cells, {len(missing)} of them missing in {chosen.out}", flush=True)
    if chosen.missing:
        return 0

    def say(done: int, count: int, cell: Cell) -> None:
        print(f"{done:4} of {count}: {cell.title}", flush=True)

    try:
        run(every, chosen.out, jobs=chosen.jobs, scheduler=chosen.scheduler, progress=say)
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept; run the same command to go on.", file=sys.stderr)
        return 130
    except TerminatedWorkerError:
        print("\nA worker was killed. What was finished is kept; run the same command to go on.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
