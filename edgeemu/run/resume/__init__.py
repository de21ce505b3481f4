"""Runs that were killed or have failed and go on: what of their records counts, and where they had come to."""
