"""Fuzzing of every place where files and messages of others enter. Knows the product's entrances; `fuzz.py` runs it.

Inputs are real ones with edits; the odd values that are put into them are Hypothesis's, which makes only some hundred
whole inputs a second. (atheris, which is led by coverage, has packages for x86-64 only.)
"""
