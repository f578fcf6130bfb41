"""What the comparison of the chapters leaves out: messages on stderr.

The stored chapters have none (tests/test_notebooks.py sees to it), and what a machine adds by itself, such as a note on
its fonts or its processor, is no difference in what a cell computes.
"""

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    notebook = item.parent
    if notebook is not None and hasattr(notebook, "skip_compare"):
        notebook.skip_compare = (*(key for key in notebook.skip_compare if key != "stderr"), "stderr")
