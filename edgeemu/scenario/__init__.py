"""The scenario as the user wrote it: YAML with line numbers, schema, and catalog of devices, models and links.

Draws nothing at random and reads nothing of the host. May import: the modules at the top of `edgeemu`, and the
model shapes of the kernels.
"""
