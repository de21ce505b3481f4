"""Shared parts of tests: builders of small clusters and models, peers, and runs."""
