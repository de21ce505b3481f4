"""Tokenizers of model files."""
