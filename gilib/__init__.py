"""The library behind *Gradient Inversion: an executable textbook*.

Data flows one way: a ``Batch`` goes into a ``Client``, an ``Update`` leaves it, an attack turns it into a
``Reconstruction``, and ``metrics`` says how close that is.
"""

from gilib import data, federated, iteration, metrics, models, plots, widgets

__version__ = "0.1.0"

__all__ = ["data", "federated", "iteration", "metrics", "models", "plots", "widgets"]
