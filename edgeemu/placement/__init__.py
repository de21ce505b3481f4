"""Placement of blocks on devices: what a block costs, which device holds it, what that compiles to, how it moves.

Pure, and without time. May import: `cluster` and the kernels.
"""
