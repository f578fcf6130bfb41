"""Studies that take longer than a chapter: most are on photographs of 32 x 32 pixels and ReLU networks with batch norm.

Each file defines the cells of one chapter's study; ``python -m bench.studies NAME`` computes what its results lack. A
chapter loads the results, shows them and says what they cost.
"""
