"""Faults of devices and links in a run: when they happen, who is lost, and how the run goes on without them."""
