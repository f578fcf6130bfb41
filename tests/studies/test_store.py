"""The runner: it keeps what is finished, goes on where it stopped, and recomputes what changed."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matrix.small import DIVISION, NONE, SCENE, Deadly, Guess, attack_cells

from gilib.matrix import Adaptation, cells
from gilib.matrix.__main__ import main
from gilib.studies import computed, load, run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results" / "matrix.jsonl"


def counting(calls: list[str]):
    return lambda done, missing, cell: calls.append(cell.title)


def test_a_run_measures_and_a_second_one_computes_nothing(path: Path) -> None:
    calls: list[str] = []
    every = attack_cells(DIVISION, Guess())
    results = run(every, path, jobs=1, progress=counting(calls))
    assert [result["key"] for result in results] == [cell.key for cell in every]
    assert len(calls) == len(every) == 4
    assert min(results[0]["adaptive"]["psnr"]) > 100  # one division is exact
    assert max(results[2]["adaptive"]["psnr"]) < 15
    assert run(every, path, jobs=1, progress=counting(calls)) == results == load(path)
    assert len(calls) == 4


def test_a_result_says_what_made_it(path: Path) -> None:
    [result, _] = run(attack_cells(Guess()), path, jobs=1)
    assert {"torch", "numpy", "python", "gilib"} <= result["by"].keys()
    assert result["computed in"] >= 0
    assert (result["attack"], result["defense"], result["stage"]) == ("Guess", "None", 0)
    assert result["settings"]["attack"] == {"is": "Guess", "name": "Guess", "level": 0.5}
    assert result["settings"]["stage"] == 0


def test_a_cell_computed_here_leaves_the_number_of_threads_alone() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        computed(attack_cells(Guess())[0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_changed_setting_recomputes_only_what_it_touches(path: Path) -> None:
    run(attack_cells(DIVISION, Guess()), path, jobs=1)
    calls: list[str] = []
    results = run(attack_cells(DIVISION, Guess(level=0.25)), path, jobs=1, progress=counting(calls))
    assert calls == [f"small, None: Guess, a round from {stage}" for stage in (0, 2)]
    assert load(path) == results  # what belonged to the old setting is gone


def test_a_line_that_an_interruption_cut_off_is_computed_again(path: Path) -> None:
    every = attack_cells(DIVISION, Guess())
    results = run(every, path, jobs=1)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][: len(lines[2]) // 2])
    assert load(path) == results[:2]
    calls: list[str] = []
    again = run(every, path, jobs=1, progress=counting(calls))
    assert len(calls) == 2
    assert [one["adaptive"] for one in again] == [one["adaptive"] for one in results]


def test_a_damaged_line_elsewhere_is_an_error_that_names_it(path: Path) -> None:
    run(attack_cells(Guess()), path, jobs=1)
    path.write_text("{broken\n" + path.read_text())
    with pytest.raises(ValueError, match=r"line 1 of .* is damaged"):
        load(path)


def test_a_killed_worker_loses_only_what_was_under_way(path: Path) -> None:
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    finished = run(attack_cells(DIVISION), path, jobs=1)
    with pytest.raises(TerminatedWorkerError):
        run(attack_cells(DIVISION, Deadly()), path, jobs=2)
    assert load(path) == finished
    calls: list[str] = []
    run(attack_cells(DIVISION, Guess()), path, jobs=2, progress=counting(calls))
    assert len(calls) == 2


SLOW = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from matrix.small import DIVISION, Guess, attack_cells
from gilib.studies import run
every = attack_cells(DIVISION, *(Guess(name=f"Guess {n}", level=n / 400) for n in range(400)))
if __name__ == "__main__":
    run(every, Path(sys.argv[1]), jobs=2, progress=lambda *_: print("done", flush=True))
"""


def test_control_c_keeps_what_is_finished(path: Path) -> None:
    script = path.parent.with_name("slow.py")
    script.write_text(SLOW)
    running = subprocess.Popen(
        [sys.executable, str(script), str(path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert running.stdout is not None
    for _ in range(3):
        assert running.stdout.readline() == "done\n"
    running.send_signal(signal.SIGINT)
    running.wait(timeout=120)
    assert running.returncode != 0
    kept = load(path)
    assert 3 <= len(kept) < 802
    assert len({result["key"] for result in kept}) == len(kept)
    assert all("adaptive" in result for result in kept)


def test_a_dask_cluster_of_two_workers_gives_the_same_results(path: Path) -> None:
    from distributed import LocalCluster

    every = attack_cells(DIVISION, Guess())
    alone = [computed(cell) for cell in every]
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        results = run(every, path, scheduler=cluster.scheduler_address)
    measured = ("key", "adaptive")
    assert [[one[name] for name in measured] for one in results] == [[one[name] for name in measured] for one in alone]
    assert load(path) == results


def test_two_entries_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="name of its own"):
        cells([SCENE], [NONE], [Guess(), Guess(level=0.1)])
    with pytest.raises(ValueError, match="name of its own"):
        cells([SCENE], [NONE, replace(NONE, adaptation=Adaptation())], [Guess()])


def test_the_command_says_what_is_missing(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--missing", "--out", str(path)]) == 0
    said = capsys.readouterr().out
    count = int(said.split()[0])
    assert f"{count} cells, {count} of them missing" in said
    assert count > 300


def test_results_are_lines_of_json(path: Path) -> None:
    start = time.time()
    run(attack_cells(Guess()), path, jobs=1)
    for line in path.read_text().splitlines():
        json.loads(line)
    assert time.time() - start < 60
