"""Emulated time: clock, queues, network delays, discrete-event simulator and scheduler of sequences.

Reads no wall clock. May import: `placement` and `cluster`.
"""
