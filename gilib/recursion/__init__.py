"""Recursion-based attacks: solve for the data, layer by layer, instead of searching for it."""

from gilib.recursion.convolution import rgap
from gilib.recursion.dense import dense_input, dense_report, layer_inputs, lone_inputs, nearest_input, phong
from gilib.recursion.equations import JacobianRank, jacobian_rank, layer_equations
from gilib.recursion.exact_batches import BatchReport, spear
from gilib.recursion.rank import LayerRank, RankReport, rank_analysis
from gilib.recursion.reconstruction import LayerReport, Reconstruction

__all__ = [
    "BatchReport",
    "JacobianRank",
    "LayerRank",
    "LayerReport",
    "RankReport",
    "Reconstruction",
    "dense_input",
    "dense_report",
    "jacobian_rank",
    "layer_equations",
    "layer_inputs",
    "lone_inputs",
    "nearest_input",
    "phong",
    "rank_analysis",
    "rgap",
    "spear",
]
