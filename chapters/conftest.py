"""What the comparison of the chapters leaves out: messages on stderr.

The stored chapters have none (tests/test_notebooks.py sees to it), and what a
machine adds by itself, such as a note on its fonts or its processor, is no
difference in what a cell computes.
"""

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    notebook = item.parent
    skipped = getattr(notebook, "skip_compare", None)
    if skipped is not None and "stderr" not in skipped:
        notebook.skip_compare = (*skipped, "stderr")
