"""Links between device processes: how a message is sent so that it arrives when the emulated network says.

May import: `timeline`, `placement`, `cluster`, and namespaces of `host`.
"""
