"""What clients hold: batches of images in [0, 1], and the data sets they come from.

`load` needs no download for "photos", "digits" and "faces"; "cifar10", "cifar100" and "mnist" are read through
torchvision from files that the reader provides, folders of images by Pillow. Each loader imports the package it reads
from: together they take several seconds, which nobody should wait for who needs only one.
"""

from gilib.data.batch import Batch, Dataset, check_probabilities
from gilib.data.loading import load

__all__ = ["Batch", "Dataset", "check_probabilities", "load"]
