"""The command line of a study: compute what is missing, say what happens, and stop without a loss."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from joblib.externals.loky.process_executor import TerminatedWorkerError

from gilib.studies.cell import Cell
from gilib.studies.store import load, run


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """The options that every study has."""
    made = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=f"{description} Results that are there already are kept, so an interrupted run goes on where it "
        "stopped.",
    )
    made.add_argument("--jobs", type=int, default=2, help="processes on this machine (default: 2)")
    made.add_argument("--scheduler", metavar="ADDRESS", help="a Dask cluster instead, such as tcp://127.0.0.1:8786")
    made.add_argument("--missing", action="store_true", help="only say how many cells are missing")
    return made


def carry_out(cells: Sequence[Cell], path: Path, chosen: argparse.Namespace) -> int:
    """Compute what ``path`` lacks, and return the exit code: 130 when stopped, 1 when a worker was killed."""
    there = {result["key"] for result in load(path)}
    missing = [cell for cell in cells if cell.key not in there]
    print(f"{len(cells)} cells, {len(missing)} of them missing in {path}", flush=True)
    if chosen.missing:
        return 0

    def say(done: int, count: int, cell: Cell) -> None:
        print(f"{done:4} of {count}: {cell.title}", flush=True)

    try:
        run(cells, path, jobs=chosen.jobs, scheduler=chosen.scheduler, progress=say)
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept; run the same command to go on.", file=sys.stderr)
        return 130
    except TerminatedWorkerError:
        print("\nA worker was killed. What was finished is kept; run the same command to go on.", file=sys.stderr)
        return 1
    return 0
