"""What clients hold: batches of images in [0, 1], of rows of a table or of graphs, and where they come from.

`load` needs no download for "photos", "digits" and "faces"; "cifar10", "cifar100" and "mnist" are read through
torchvision from files that the reader provides, folders of images by Pillow. Each loader imports the package it reads
from: together they take several seconds, which nobody should wait for who needs only one.
"""

from gilib.data.batch import Batch, Dataset, check_probabilities
from gilib.data.loading import load
from gilib.data.rows import GraphBatch, TableBatch
from gilib.data.tables import Column, Columns, Table, load_table

__all__ = [
    "Batch",
    "Column",
    "Columns",
    "Dataset",
    "GraphBatch",
    "Table",
    "TableBatch",
    "check_probabilities",
    "load",
    "load_table",
]
