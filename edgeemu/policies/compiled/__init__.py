"""Closed forms of placements with divided layers for LLVM, one placement at a time: what NumPy computes for a batch."""
