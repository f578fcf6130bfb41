"""Run the cells that are missing, and keep every result as soon as it is there."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import joblib

from gilib.studies.cell import Cell, Result, computed

Progress = Callable[[int, int, Cell], None]


def load(path: Path | str) -> list[Result]:
    """The results in a file, one JSON object a line; none where there is no file.

    A last line that an interruption cut off is left out. Raises ValueError for a damaged line before the last.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    results: list[Result] = []
    for number, line in enumerate(lines, start=1):
        try:
            results.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(
                    f"line {number} of {path} is damaged ({error}). Delete that line and run again."
                ) from None
    return results


def run(
    cells: Sequence[Cell],
    path: Path | str,
    *,
    jobs: int = 2,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Compute the cells whose results the file ``path`` does not have yet, and return all results in the cells' order.

    A result belongs to a cell when their keys agree, so that changed settings are computed anew and everything else is
    kept. Each result is appended to the file when it arrives: an interruption loses the cells under way, and the next
    run goes on. At the end, results that belong to no cell are dropped. ``jobs`` processes work, or the workers of the
    Dask cluster at the address ``scheduler``. ``progress(done, missing, cell)`` is called after each cell.

    Raises joblib's TerminatedWorkerError where a worker was killed; run again to go on.
    """
    path = Path(path)
    known = {result["key"]: result for result in load(path)}
    missing = [cell for cell in cells if cell.key not in known]
    if missing:
        _rewrite(path, known.values())  # without the line that an interruption cut off
        titles = {cell.key: cell for cell in missing}
        for done, result in enumerate(_results(missing, jobs=jobs, scheduler=scheduler), start=1):
            known[result["key"]] = result
            _append(path, result)
            if progress is not None:
                progress(done, len(missing), titles[result["key"]])
    results = [known[cell.key] for cell in cells]
    _rewrite(path, results)
    return results


def _results(cells: Sequence[Cell], *, jobs: int, scheduler: str | None) -> Iterator[Result]:
    """Results in the order in which they are ready."""
    with nullcontext() if scheduler is None else _cluster(scheduler):
        parallel = joblib.Parallel(n_jobs=jobs, batch_size=1, pre_dispatch="2*n_jobs", return_as="generator_unordered")
        yield from parallel(joblib.delayed(computed)(cell) for cell in cells)


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Let joblib send its work to the Dask cluster at ``address``."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a Dask cluster needs the package 'distributed': pip install distributed.") from error
    with Client(address, timeout=30), joblib.parallel_config(backend="dask"):
        yield


def _append(path: Path, result: Result) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _rewrite(path: Path, results: Any) -> None:
    """Replace the file in one step, so that no interruption can lose it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text("".join(json.dumps(result) + "\n" for result in results), encoding="utf-8")
    fresh.replace(path)
