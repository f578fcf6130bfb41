"""A cell: one thing that is measured once and kept, with the settings and versions that made it."""

import platform
import time
from typing import Any, Protocol

import numpy as np
import torch

import gilib
from gilib.studies.describe import describe

Result = dict[str, Any]


class Cell(Protocol):
    """A frozen dataclass whose fields are the settings of a measurement, so that they make its key."""

    @property
    def title(self) -> str:
        """What a progress line says."""

    @property
    def key(self) -> str:
        """Changes with every setting that the result depends on, and with no other (see `gilib.studies.key`)."""

    def measure(self) -> Result:
        """The result, as JSON data."""


def computed(cell: Cell) -> Result:
    """The result of one cell, with the settings and versions that made it, by one thread.

    Every random draw has the seed that the settings say.
    """
    start, threads = time.perf_counter(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = {"key": cell.key, **cell.measure(), "settings": describe(cell)}
    finally:
        torch.set_num_threads(threads)
    made = {"gilib": gilib.__version__, "torch": torch.__version__, "numpy": np.__version__}
    made |= {"python": platform.python_version(), "processor": platform.machine()}
    return result | {"computed in": round(time.perf_counter() - start, 1), "by": made}
