"""Put the site's notebooks on a branch of their own: ``python tools/notebooks_branch.py REMOTE``.

Colab and JupyterHub open them there. Unlike the stored notebooks, those of a site whose site.toml names a repository
begin with a cell that fetches the book and installs its library. Commits are added and never replaced, since
nbgitpuller merges.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "_build" / "html" / "_sources" / "chapters"
BRANCH = "notebooks"
CELL = '"id": "run-alone"'
AUTHOR = ("-c", "user.name=The notebooks of the site", "-c", "user.email=notebooks@localhost")


def git(folder: Path, *words: str) -> str:
    """Run git in a folder and return what it says; end with its own words where it fails."""
    done = subprocess.run(["git", *words], cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"git {words[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def push(built: Path, remote: str, message: str) -> bool:
    """Bring the branch of a remote to the state of a folder; tell whether anything had changed."""
    notebooks = sorted(built.rglob("*.ipynb"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        git(folder, "init", "--quiet", f"--initial-branch={BRANCH}")
        if git(folder, "ls-remote", "--heads", remote, BRANCH):
            git(folder, "fetch", "--quiet", "--depth=1", remote, BRANCH)
            git(folder, "reset", "--quiet", "--hard", "FETCH_HEAD")
            shutil.rmtree(folder / "chapters", ignore_errors=True)
        for path in notebooks:
            target = folder / "chapters" / path.relative_to(built)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        git(folder, "add", "--all")
        if not git(folder, "status", "--porcelain"):
            return False
        git(folder, *AUTHOR, "commit", "--quiet", f"--message={message}")
        git(folder, "push", "--quiet", remote, f"HEAD:{BRANCH}")
    return True


def main() -> int:
    """Push, and say what happened."""
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit("expected where to push to: make notebooks-branch REMOTE=https://github.com/owner/name.git")
    found = list(BUILT.rglob("*.ipynb"))
    if not found or any(CELL not in path.read_text(encoding="utf-8") for path in found):
        print("Nothing to push: these notebooks do not run alone, as site.toml names no repository.")
        return 0
    changed = push(BUILT, sys.argv[1], f"Notebooks of {git(ROOT, 'rev-parse', '--short', 'HEAD')}")
    print(f"The branch {BRANCH} " + ("has the notebooks of this site." if changed else "had them already."))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
