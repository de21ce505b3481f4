"""A policy in a process of its own: whatever it does, it can spoil neither the run nor its limits."""
