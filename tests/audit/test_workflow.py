"""The workflow of book/builds.md: its commands run, and its decision fails where it should."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

BUILDS = Path(__file__).resolve().parents[2] / "book" / "builds"
JOB = yaml.safe_load((BUILDS / "audit.yml").read_text(encoding="utf-8"))["jobs"]["audit"]
COMMANDS = {step["name"]: step["run"] for step in JOB["steps"] if "run" in step}


def shell(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of a step as the runner does, with this Python first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | JOB["env"] | {"PATH": path, "PIP_NO_INDEX": "1"}
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", COMMANDS[name]]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_commands_run_and_leave_a_report(tmp_path):
    assert list(COMMANDS) == ["Install", "Audit", "Decide"]
    shutil.copy(BUILDS / "federation.py", tmp_path)
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "audit.json").write_text("an old report", encoding="utf-8")
    for name in COMMANDS:
        done = shell(name, tmp_path)
        assert done.returncode == 0 or name == "Decide", done.stdout + done.stderr
    report = json.loads((tmp_path / "audit" / "audit.json").read_text(encoding="utf-8"))
    assert (tmp_path / "audit" / "audit.html").exists()
    assert report["verdict"] == "images leak"  # a dense first layer without a defense
    assert done.returncode == 1
    assert "images leak" in done.stdout


def test_a_wrong_target_ends_the_build(tmp_path):
    (tmp_path / "federation.py").write_text("model = 3\n", encoding="utf-8")
    assert shell("Audit", tmp_path).returncode == 1
    assert shell("Decide", tmp_path).returncode == 1


def written(folder: Path, **changes: object) -> None:
    """A report on which the workflow decides "passed", with some changes."""
    report = {
        "schema": "gilib-audit/1",
        "verdict": "partial leak",
        "exit_code": 1,
        "meaning": ["why"],
        "control_recovered": True,
        "findings": [
            {"check": "labels", "level": "partial", "numbers": {}},
            {"check": "search: a", "level": "nothing", "numbers": {"psnr": [9.0, 17.5]}},
        ],
    }
    (folder / "audit").mkdir()
    (folder / "audit" / "audit.json").write_text(json.dumps(report | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({}, 0, "passed: partial leak"),
        ({"exit_code": 0, "verdict": "nothing found", "findings": []}, 0, "passed: nothing found"),
        ({"exit_code": 2, "verdict": "images leak"}, 1, "images leak: why"),
        ({"exit_code": 3, "verdict": "no answer"}, 1, "no answer: why"),
        ({"exit_code": 130}, 1, "partial leak: why"),
        ({"control_recovered": False}, 1, "too weak"),
        ({"findings": [{"check": "search: a", "level": "partial", "numbers": {}}]}, 1, "read off an update: search: a"),
        ({"findings": [{"check": "a", "level": "nothing", "numbers": {"psnr": [18.2]}}]}, 1, "18.2 dB"),
        ({"schema": "gilib-audit/2"}, 1, ""),
    ],
)
def test_the_decision(tmp_path, changes, code, says):
    written(tmp_path, **changes)
    done = shell("Decide", tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout
