"""Run chapters from the first cell to the last and store what they print: ``python tools/execute.py [name ...]``.

A name is that of a notebook without its folder and ending; without names every chapter runs. A notebook is written
only when all of its cells ran. What changes from run to run without meaning anything (times, widget identifiers) is
left out or renamed, so that running an unchanged chapter again leaves the file as it was.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
KEPT_CELL_METADATA = {"mystnb", "tags", "reason", "typed-numbers", "jupyter", "editable", "slideshow"}
STATE = "application/vnd.jupyter.widget-state+json"
TIMEOUT = 600
LIMIT = 90


def find(names: list[str]) -> list[Path]:
    """Return the notebooks called ``names``, or all; end with a message that lists them where one is unknown."""
    known = {path.stem: path for path in sorted(CHAPTERS.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts}
    stems = [Path(name).stem for name in names] or list(known)
    unknown = sorted(set(stems) - set(known))
    if unknown:
        sys.exit(f"no chapter called {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[stem] for stem in stems]


def strip(notebook: nbformat.NotebookNode) -> None:
    """Drop metadata that changes from run to run and from reader to reader."""
    widgets = notebook.metadata.get("widgets")
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {
                "file_extension": ".py",
                "mimetype": "text/x-python",
                "name": "python",
                "pygments_lexer": "ipython3",
            },
        }
    )
    if widgets and widgets.get(STATE, {}).get("state"):
        notebook.metadata["widgets"] = widgets
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in sorted(cell.metadata) if key in KEPT_CELL_METADATA}
        )


def rename_widgets(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Give the widget models identifiers that follow from their order instead of random ones."""
    state = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    order = {model: f"{number:032x}" for number, model in enumerate(state)}
    text = re.sub(r"[0-9a-f]{32}", lambda match: order.get(match.group(), match.group()), json.dumps(notebook))
    return nbformat.from_dict(json.loads(text))


def run(path: Path) -> None:
    """Execute one notebook in its own folder and store it."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("widgets", None)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    started = time.perf_counter()
    try:
        client.execute()
    except CellExecutionError as error:
        sys.exit(f"{path.relative_to(ROOT)}: a cell failed, nothing was stored\n{error}")
    seconds = time.perf_counter() - started
    strip(notebook)
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(rename_widgets(notebook)).rstrip("\n") + "\n", encoding="utf-8")
    slow = f" (more than the {LIMIT} s a chapter may take)" if seconds > LIMIT else ""
    print(f"{path.relative_to(ROOT)}: executed in {seconds:.0f} s{slow}, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    for chapter in find(sys.argv[1:]):
        run(chapter)
