"""Recursion-based attacks: solve for the data, layer by layer, instead of searching for it."""

from gilib.recursion.reconstruction import LayerReport, Reconstruction

__all__ = ["LayerReport", "Reconstruction"]
