"""Where a chapter can be run, and the cell by which a notebook that stands alone gets what it needs."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from gilib_publish.settings import Site

BRANCH = "notebooks"  # of the repository: the published notebooks, which tools/notebooks_branch.py writes
CELL = "run-alone"
SOURCE = """\
# First of all, and once: the book's files and its library, for a notebook that stands alone.
import os
import subprocess
import sys

if not os.path.isdir("{up}gilib"):
    if not os.path.isdir("{folder}"):
        clone = ["git", "clone", "--quiet", "--filter=blob:none"]
        subprocess.run([*clone, "{repository}", "{folder}"], check=True)
        checkout = ["git", "-C", "{folder}", "checkout", "--quiet"]
        subprocess.run([*checkout, "{commit}"], check=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "./{folder}"], check=True)
    os.chdir("{folder}/{here}")"""


def places(site: Site, page: str) -> list[dict[str, str]]:
    """The buttons of a chapter, as the theme wants them."""
    file = f"{quote(page)}.ipynb"
    path = urlsplit(site.repository).path.strip("/")
    kinds = {"github": f"gh/{path}", "gitlab": f"gl/{quote(path, safe='')}"}
    kind = kinds.get(site.forge, f"git/{quote(site.repository, safe='')}")
    pull = urlencode({"repo": site.repository, "branch": BRANCH, "urlpath": f"lab/tree/{site.name}/{page}.ipynb"})
    found = {
        "Binder": (site.binder, f"/v2/{kind}/{quote(site.branch, safe='')}?urlpath=lab/tree/{file}"),
        "Colab": (site.colab, f"/github/{path}/blob/{BRANCH}/{file}"),
        "JupyterHub": (site.jupyterhub, f"/hub/user-redirect/git-pull?{pull}"),
    }
    icons = {"Binder": "logo_binder.svg", "Colab": "logo_colab.png", "JupyterHub": "logo_jupyterhub.svg"}
    return [
        {
            "type": "link",
            "text": name,
            "tooltip": f"Run on {name}",
            "url": place + rest,
            "icon": f"_static/images/{icons[name]}",
        }
        for name, (place, rest) in found.items()
        if place
    ]


def cell(site: Site, commit: str, page: str) -> dict[str, Any]:
    """The first cell of a published notebook."""
    here = PurePosixPath(page).parent
    source = SOURCE.format(
        up="../" * len(here.parts),
        folder=site.name,
        repository=site.repository,
        commit=commit or site.branch,
        here=here,
    )
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": CELL,
        "metadata": {},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }


def prepare(sources: Path, site: Site, commit: str) -> None:
    """Put the cell in front of every published notebook of a folder; take an old one out."""
    for path in sorted(sources.rglob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        own = [one for one in notebook["cells"] if one.get("id") != CELL]
        page = path.relative_to(sources).with_suffix("").as_posix()
        notebook["cells"] = [cell(site, commit, page), *own] if site.repository else own
        path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
