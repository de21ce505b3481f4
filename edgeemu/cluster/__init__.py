"""The cluster, every random value sampled: devices, links, topology, and their variation over emulated time.

Pure values, small enough for device processes. May import: the modules at the top of `edgeemu`; only `cluster.draw` may
import `scenario`.
"""
