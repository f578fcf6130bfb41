"""A notebook taken out of a built site, in an empty folder: its first cell brings what it needs, and it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import small_book
from gilib_publish.launch import CELL, prepare
from gilib_publish.settings import Site
from small_book import CHAPTER, ROOT

WHERE = 'import gilib, os\nprint(gilib.__file__, os.getcwd(), sep="\\n")'


def execute(notebook: Path, installed: Path) -> None:
    """Run a notebook in its own folder as a reader would, with what pip installs going into a folder of its own.

    The environment's packages are there already, as on Colab most are; so pip only builds and adds the library.
    """
    variables = {
        "PIP_TARGET": str(installed),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the option --no-build-isolation, whatever the number
        "PYTHONPATH": str(installed),
    }
    words = [sys.executable, "-m", "jupyter", "execute", "--inplace", notebook.name]
    done = subprocess.run(
        words, cwd=notebook.parent, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy of the sources without git cannot be cloned")
def test_a_downloaded_notebook_runs_in_an_empty_folder(tmp_path):
    commit = small_book.git(ROOT, "rev-parse", "HEAD")
    sources, folder = tmp_path / "_sources", tmp_path / "downloads"
    (sources / CHAPTER).parent.mkdir(parents=True)
    folder.mkdir()
    (tmp_path / "installed").mkdir()
    stored = small_book.git(ROOT, "show", f"HEAD:{CHAPTER}.ipynb")
    (sources / f"{CHAPTER}.ipynb").write_text(stored, encoding="utf-8")
    prepare(sources, Site(repository=f"file://{ROOT}", contact="errors@example.org"), commit)
    notebook = nbformat.read(sources / f"{CHAPTER}.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(WHERE))
    nbformat.write(notebook, folder / "chapter.ipynb")

    execute(folder / "chapter.ipynb", tmp_path / "installed")

    done = nbformat.read(folder / "chapter.ipynb", as_version=4)
    assert done.cells[0].id == CELL
    assert done.cells[0].outputs == []
    library, here = done.cells[-1].outputs[0].text.split()
    assert Path(library) == tmp_path / "installed" / "gilib" / "__init__.py"
    assert Path(here) == folder / ROOT.name / Path(CHAPTER).parent
    for before, after in zip(notebook.cells[:-1], done.cells[:-1], strict=True):
        assert printed(after) == printed(before)


def printed(cell: nbformat.NotebookNode) -> str:
    """What a cell prints."""
    return "".join(one.get("text", "") for one in cell.get("outputs", []) if one.get("name") == "stdout")
