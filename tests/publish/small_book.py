"""A book of a few pages with the real configuration and extensions, built in seconds."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = "chapters/defenses/distributed_privacy"  # it reads a file beside the library, and runs in twenty seconds
TOC = {
    "format": "jb-book",
    "root": "book/index",
    "chapters": [{"file": "book/words"}, {"file": "book/citing"}, {"file": CHAPTER}],
}
PAGES = {
    "book/index.md": "# Gradient Inversion\n\nAn executable textbook: how private data comes back out of shared "
    "gradients,\nand what stops it, in chapters that were executed.\n",
    "book/words.md": "# Words & signs\n\nThe *gradient* $\\partial f$ of a loss says how to lower it. "
    + "Word " * 50
    + "\n",
}
LINKED = ("book/_ext", "book/_static", "book/_root", "book/images", "bench")
COPIED = ("_config.yml", "CITATION.cff", "pyproject.toml", "book/citing.md", "book/references.bib", f"{CHAPTER}.ipynb")


def git(folder: Path, *words: str, **variables: str) -> str:
    """Run a command of git as somebody with a name; return what it says."""
    named = ["-c", "user.name=A maintainer", "-c", "user.email=maintainer@example.org"]
    environment = os.environ | variables
    done = subprocess.run(
        ["git", *named, *words], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def write(folder: Path, site: str, changes: dict[str, object] | None = None) -> None:
    """Write the book, with the text of its site.toml and what its _config.yml says otherwise under dotted keys."""
    for name in LINKED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name, text in PAGES.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "_toc.yml").write_text(yaml.safe_dump(TOC), encoding="utf-8")
    (folder / "site.toml").write_text(site, encoding="utf-8")
    configuration = yaml.safe_load((folder / "_config.yml").read_text(encoding="utf-8"))
    without = configuration["sphinx"]  # the live experiments import the library, and no page here has one
    without["local_extensions"].pop("gilib_live")
    without["config"]["extensions"].remove("gilib_live")
    for key, value in (changes or {}).items():
        *path, last = key.split(".")
        place = configuration
        for word in path:
            place = place.setdefault(word, {})
        place[last] = value
    (folder / "_config.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")


def committed(folder: Path) -> str:
    """Make the book a repository with one commit, of a day that is known; return the commit."""
    day = {"GIT_COMMITTER_DATE": "2026-11-01T12:00:00+00:00", "GIT_AUTHOR_DATE": "2026-11-01T12:00:00+00:00"}
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=The book", **day)
    return git(folder, "rev-parse", "HEAD")


def build(folders: list[Path]) -> dict[Path, str]:
    """Build some books in one process, as importing takes longer than building; return what each build said.

    Warnings are no errors here: links to chapters that a small book lacks are not the matter.
    """
    words = [sys.executable, str(Path(__file__)), *map(str, folders)]
    environment = os.environ | {"NO_COLOR": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return {Path(folder): said for folder, said in json.loads(done.stdout.splitlines()[-1]).items()}


def build_here(folder: str) -> str:
    """Build one book in this process; return its messages."""
    from jupyter_book.cli.main import main

    os.chdir(folder)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(["build", "--quiet", "."], standalone_mode=False)
        except (Exception, SystemExit) as error:
            said.write(f"not built: {error}")
    return said.getvalue()


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps({folder: build_here(folder) for folder in sys.argv[1:]}))
