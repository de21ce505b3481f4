"""The process of one emulated device: it runs operations, sends messages and migrates blocks on request.

Stays small. May import: `links`, `timeline`, `placement`, `cluster` (not `cluster.draw`), priority and namespaces of
`host`, and the kernels.
"""
