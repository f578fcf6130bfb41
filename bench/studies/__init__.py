"""Studies at the scale of the field: colour photographs of 32 x 32 pixels, ReLU networks with batch norm.

Each file defines the cells of one chapter's study; ``python -m bench.studies NAME`` computes what its results lack. A
chapter loads the results, shows them and says what they cost.
"""
