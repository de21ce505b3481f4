"""The cluster as it is, every random draw made: devices, links, topology, and how they vary over emulated time.

Pure values, small enough for device processes. May import: the modules at the top of `edgeemu`; only `cluster.draw` may
import `scenario`.
"""
