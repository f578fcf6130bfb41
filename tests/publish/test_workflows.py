"""What publishes the book elsewhere: workflows, Read the Docs, Binder, the branch of notebooks, and the citation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from gilib_publish import launch
from gilib_publish.citing import cited
from small_book import ROOT, git

import gilib

sys.path.insert(0, str(ROOT / "tools"))
import notebooks_branch

PAGES = yaml.safe_load((ROOT / ".github/workflows/pages.yml").read_text(encoding="utf-8"))
STEPS = [step for job in PAGES["jobs"].values() for step in job["steps"]]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def made(commands: list[str]) -> list[str]:
    """The targets that some commands make."""
    return re.findall(r"^make ([a-z-]+)$", "\n".join(commands), re.MULTILINE)


def test_the_workflow_builds_and_publishes_what_make_book_writes():
    assert made([step["run"] for step in STEPS if "run" in step]) == ["book", "notebooks-branch"]
    assert {"book", "notebooks-branch"} <= TARGETS
    (upload,) = [step for step in STEPS if "upload-pages-artifact" in step.get("uses", "")]
    assert upload["with"]["path"] == "_build/html"
    assert PAGES["jobs"]["deploy"]["needs"] == "build"
    assert PAGES["jobs"]["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}


def test_actions_are_pinned_to_a_commit():
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert len(used) == 4
    for action in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action), action


def test_read_the_docs_gets_the_site_that_make_book_writes(tmp_path):
    given = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text(encoding="utf-8"))
    assert given["version"] == 2
    first, *rest = given["build"]["commands"]
    assert made([first]) == ["book"]
    (tmp_path / "_build" / "html").mkdir(parents=True)
    (tmp_path / "_build" / "html" / "index.html").write_text("a page", encoding="utf-8")
    out = tmp_path / "some where"
    for command in rest:
        subprocess.run(
            ["bash", "-ec", command], cwd=tmp_path, env=os.environ | {"READTHEDOCS_OUTPUT": str(out)}, check=True
        )
    assert (out / "html" / "index.html").read_text(encoding="utf-8") == "a page"


def test_binder_installs_the_library_in_the_versions_of_the_lock(tmp_path):
    script = ROOT / ".binder" / "postBuild"
    assert os.access(script, os.X_OK)
    minor = (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    assert minor in {"3.11", "3.12", "3.13"}
    variables = {  # everything but the packages: pip reads the pins and prepares the library
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_DRY_RUN": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run([script], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Would install gilib-{gilib.__version__}" in done.stdout
    (pins,) = [path.read_text(encoding="utf-8").splitlines() for path in tmp_path.glob("tmp.*")]
    locked = re.findall(
        r"^([A-Za-z0-9._-]+==.*?) *\\?$", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.M
    )
    assert pins == locked
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {pin.partition("==")[0] for pin in pins}
    assert {re.split("[<>=]", need)[0] for need in project["dependencies"]} <= pinned


@pytest.fixture
def remote(tmp_path):
    """An empty repository to push to."""
    git(tmp_path, "init", "--quiet", "--bare", "remote.git")
    return f"file://{tmp_path}/remote.git"


def written(folder: Path, text: str) -> Path:
    """A built site's folder of chapters with one notebook."""
    (folder / "part").mkdir(parents=True, exist_ok=True)
    (folder / "part" / "one.ipynb").write_text(text, encoding="utf-8")
    return folder


def test_the_branch_of_notebooks_grows_by_commits(tmp_path, remote):
    first = '{"id": "run-alone"}'
    assert notebooks_branch.push(written(tmp_path / "one", first), remote, "Notebooks of 1")
    assert not notebooks_branch.push(written(tmp_path / "one", first), remote, "Notebooks of 1")
    (tmp_path / "one" / "part" / "one.ipynb").rename(tmp_path / "one" / "part" / "moved.ipynb")
    assert notebooks_branch.push(tmp_path / "one", remote, "Notebooks of 2")
    bare = tmp_path / "remote.git"
    assert git(bare, "log", "--format=%s", "notebooks").split("\n") == ["Notebooks of 2", "Notebooks of 1"]
    assert git(bare, "ls-tree", "-r", "--name-only", "notebooks") == "chapters/part/moved.ipynb"


def test_a_branch_that_cannot_be_pushed_says_what_git_says(tmp_path):
    with pytest.raises(SystemExit, match="git ls-remote failed: fatal"):
        notebooks_branch.push(written(tmp_path / "one", "{}"), f"file://{tmp_path}/nowhere", "Notebooks")


def test_the_command_pushes_only_notebooks_that_run_alone(tmp_path, remote, monkeypatch, capsys):
    monkeypatch.setattr(notebooks_branch, "BUILT", written(tmp_path / "one", "{}"))
    monkeypatch.setattr(sys, "argv", ["notebooks_branch.py", remote])
    assert notebooks_branch.main() == 0
    assert "site.toml names no repository" in capsys.readouterr().out
    assert git(tmp_path / "remote.git", "branch", "--list") == ""
    monkeypatch.setattr(sys, "argv", ["notebooks_branch.py", ""])
    with pytest.raises(SystemExit, match="REMOTE=https://"):
        notebooks_branch.main()


def test_the_branch_is_the_one_that_the_buttons_open():
    assert notebooks_branch.BRANCH == launch.BRANCH
    assert f'"id": "{launch.CELL}"' == notebooks_branch.CELL


def test_all_say_the_same_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == cited(ROOT)["version"] == gilib.__version__
    assert f"## {gilib.__version__}" in (ROOT / "book" / "changelog.md").read_text(encoding="utf-8")
