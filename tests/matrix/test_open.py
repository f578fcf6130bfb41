"""A reader's own network, data, defense and attack go in by one object each, in two processes, from a script."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN = """
import dataclasses, sys
import torch
from torch import nn
from gilib import data, matrix, studies
from gilib.data import Batch
from gilib.federated import Defense
from gilib.iteration import inverting_gradients, matching
from gilib.recursion import phong

@dataclasses.dataclass(frozen=True)
class Silent(Defense):
    def protect(self, update, *, generator):
        name = next(iter(update.gradients))
        silent = {name: torch.zeros_like(update.gradients[name])}
        return dataclasses.replace(update, gradients={**update.gradients, **silent})

def own(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 20), nn.Sigmoid(), nn.Linear(20, 2)).double()

photos = data.load("photos", size=12)
pick = [i for i in range(len(photos)) if photos.labels[i] < 2]
halves = [photos.batch(pick[:24]), photos.batch(pick[24:])]
scene = matrix.Scene("own", own, *halves, people=4, cohort=4, stages=(0, 3))
entry = matrix.DefenseEntry("Silent", "own", defenses=(Silent(),), adaptation=matrix.Adaptation(matching.sent_only))
attacks = [matrix.Search("search", inverting_gradients(iterations=5)), matrix.Solve("division", phong)]
studies.run(matrix.cells([scene], [entry], attacks), sys.argv[1])
"""


def test_everything_may_be_the_readers_own(tmp_path: Path) -> None:
    script, out = tmp_path / "own.py", tmp_path / "own.jsonl"
    script.write_text(OWN)
    done = subprocess.run(
        [sys.executable, str(script), str(out)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["attack"] for one in results] == [None, "search", "search", "division", "division"]
    assert all(len(one["adaptive"]["psnr"]) == 4 for one in results[1:])
    assert results[0]["bytes"] == 4 * (3 * 12 * 12 * 20 + 20 + 20 * 2 + 2)
