"""Studies: measurements that take longer than a chapter may run, computed by one command and kept.

A study is a list of cells. ``run`` computes those whose results a file lacks, on this machine or on a Dask cluster, and
may be interrupted; ``load`` reads the file. The matrix of attacks and defenses is one.

Taught in: defenses/matrix.
"""

from gilib.studies.cell import Cell, Result, computed
from gilib.studies.command import carry_out
from gilib.studies.describe import describe, key
from gilib.studies.gather import gathered
from gilib.studies.store import load, run

__all__ = ["Cell", "Result", "carry_out", "computed", "describe", "gathered", "key", "load", "run"]
