"""This Linux host: processes, control groups, namespaces, priorities, and what ended runs have left behind.

Knows nothing of emulation. May import: the modules at the top of `edgeemu`, and the kernels' measurement of the host.
"""
