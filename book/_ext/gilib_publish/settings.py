"""What site.toml says, checked."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sphinx.errors import ConfigError

FILE = "site.toml"
KEYS = ("address", "repository", "branch", "contact")
PLACES = ("binder", "colab", "jupyterhub")
TABLES = ("launch", "redirects")
MAIL = re.compile(r"[^@\s:<>]+@[^@\s:<>]+\.[^@\s:<>]+")
BRANCH = re.compile(r"[\w][\w./-]*")


@dataclass(frozen=True)
class Site:
    """A published copy: where it is read, where its sources are, whom to write to, where its chapters can be run.

    Empty strings stand for what is not given. ``address`` ends with a slash, ``repository`` and the places with none.
    """

    address: str = ""
    repository: str = ""
    branch: str = "main"
    contact: str = ""
    binder: str = ""
    colab: str = ""
    jupyterhub: str = ""
    redirects: dict[str, str] = field(default_factory=dict)

    @property
    def forge(self) -> str:
        """What serves the repository: "github", "gitlab", "forgejo" (Codeberg, Gitea), or nothing that we know."""
        host = urlsplit(self.repository).netloc
        words = {"github": ("github.com",), "gitlab": ("gitlab",), "forgejo": ("codeberg.org", "gitea", "forgejo")}
        return next((name for name, parts in words.items() if any(part in host for part in parts)), "")

    @property
    def name(self) -> str:
        """The repository's last word, which is the folder of a clone."""
        return self.repository.rpartition("/")[2]

    def page(self, name: str) -> str:
        """The address of a page, named without a suffix; nothing where the site has no address."""
        return f"{self.address}{name}.html" if self.address else ""


def refuse(key: str, value: object, write: str) -> ConfigError:
    """The error for a value that cannot be used."""
    return ConfigError(f"{FILE}: {key} is {value!r}. {write}")


def read(root: Path) -> Site:
    """Read the file of a folder; raise ConfigError, which says what to write, where something in it cannot be used."""
    path = root / FILE
    if not path.exists():
        return Site()
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f'{FILE} is no TOML: {error}. Texts stand in double quotes: branch = "main"') from error
    known_only(found)
    launch = {place: web(f"launch.{place}", found.get("launch", {}).get(place, "")) for place in PLACES}
    plain = {key: text(key, found[key]) for key in KEYS if key in found}
    site = Site(
        address=folder(plain.get("address", "")),
        repository=repository(plain.get("repository", "")),
        branch=plain.get("branch", "") or "main",
        contact=plain.get("contact", ""),
        redirects={old: text(f"redirects.{old}", new) for old, new in found.get("redirects", {}).items()},
        **launch,
    )
    return together(site)


def known_only(found: dict[str, Any]) -> None:
    """Refuse keys that nobody reads: a typing error would otherwise be silent."""
    for key, value in found.items():
        if key not in (*KEYS, *TABLES):
            raise ConfigError(f"{FILE}: nothing reads the key {key!r}. It may have: {', '.join((*KEYS, *TABLES))}.")
        if key in TABLES and not isinstance(value, dict):
            raise refuse(key, value, f"It is a table: write [{key}] in a line of its own, and its keys below.")
    for key in found.get("launch", {}):
        if key not in PLACES:
            raise ConfigError(f"{FILE}: nothing reads the key {key!r} of [launch]. It may have: {', '.join(PLACES)}.")


def text(key: str, value: object) -> str:
    """A value that is a text."""
    if not isinstance(value, str):
        raise refuse(key, value, 'Write a text in double quotes, "" for none.')
    return value.strip()


def web(key: str, value: object, schemes: tuple[str, ...] = ("https", "http")) -> str:
    """A web address without its last slash, or the empty text."""
    given = text(key, value)
    parts = urlsplit(given)
    whole = parts.scheme in schemes and (parts.netloc or parts.scheme == "file")
    if given and (not whole or parts.query or parts.fragment or re.search(r'[\s"<>]', given)):
        raise refuse(key, given, 'Write a whole address without "?" and "#": "https://example.org/name".')
    return given.rstrip("/")


def folder(value: str) -> str:
    """The address of the site, which ends with one slash."""
    if value.endswith(".html"):
        raise refuse("address", value, 'Write the folder, not a page in it: "https://example.org/gradient-inversion/".')
    given = web("address", value)
    return given and given + "/"


def repository(value: str) -> str:
    """The address of the repository, as git clones it and as people read it."""
    example = 'Write what a browser shows: "https://github.com/owner/name".'
    if value.startswith(("git@", "ssh:")):
        raise refuse("repository", value, f"Readers have no key for it. {example}")
    given = web("repository", value, ("https", "http", "file")).removesuffix(".git")
    if given.startswith("http") and len(urlsplit(given).path.strip("/").split("/")) < 2:
        raise refuse("repository", value, example)
    return given


def together(site: Site) -> Site:
    """Refuse what does not fit together."""
    if not BRANCH.fullmatch(site.branch):
        raise refuse("branch", site.branch, 'Write the name of a branch: "main".')
    if site.contact and not MAIL.fullmatch(site.contact):
        raise refuse("contact", site.contact, 'Write a mail address alone: "errors@example.org".')
    for place in PLACES:
        if getattr(site, place) and not site.repository:
            raise refuse(f"launch.{place}", getattr(site, place), "It opens the repository: give that too.")
    if site.colab and site.forge != "github":
        raise refuse("launch.colab", site.colab, "Colab opens notebooks of github.com only: leave it empty.")
    if site.repository and not site.forge and not site.contact:
        write = "Its host is none of GitHub, GitLab, Codeberg, Gitea: give a contact too, for who finds an error."
        raise refuse("repository", site.repository, write)
    return site
