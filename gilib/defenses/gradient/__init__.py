"""Gradients that say less: pruned, sent in parts, quantized, reduced to signs, or without a layer's telling columns."""

from gilib.defenses.gradient.columns import Soteria, feature_scores, soteria
from gilib.defenses.gradient.rounding import Quantization, SignCompression, quantization, sign_compression
from gilib.defenses.gradient.sparse import Pruning, Scope, TopK, pruning, top_k

__all__ = [
    "Pruning",
    "Quantization",
    "Scope",
    "SignCompression",
    "Soteria",
    "TopK",
    "feature_scores",
    "pruning",
    "quantization",
    "sign_compression",
    "soteria",
    "top_k",
]
