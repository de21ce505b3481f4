"""Weights of a model: where they are, how they are stored, and how blocks of them are read."""
