"""Which version of the book this is, and of which day."""

from __future__ import annotations

import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

from gilib_publish.settings import Site

COMMITS = {"github": "/commit/", "gitlab": "/-/commit/", "forgejo": "/commit/"}


@dataclass(frozen=True)
class Version:
    """The library's version, and the commit with its own day; without git these two are empty."""

    number: str
    commit: str = ""
    day: str = ""
    changed: bool = False


def git(root: Path, *words: str) -> str:
    """What a command of git says; nothing where it fails or git is not installed."""
    try:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def version(root: Path) -> Version:
    """The version of the sources in a folder. A folder that lies in another's repository has no commit of its own."""
    number = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    top = git(root, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != root.resolve():
        return Version(number)
    commit, _, day = git(root, "show", "--no-patch", "--format=%H %cs", "HEAD").partition(" ")
    return Version(number, commit, day, bool(commit and git(root, "status", "--porcelain", "--untracked-files=no")))


def line(found: Version, site: Site) -> str:
    """The version as a line of HTML for the foot of every page."""
    if not found.commit:
        return f'<p class="gilib-version">Version {found.number}</p>'
    short = found.commit[:7]
    link = f'<a href="{site.repository}{COMMITS[site.forge]}{found.commit}">{short}</a>' if site.forge else short
    changed = " with changes" if found.changed else ""
    return f'<p class="gilib-version">Version {found.number} of {found.day}, commit {link}{changed}</p>'
