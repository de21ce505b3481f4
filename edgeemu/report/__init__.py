"""Records of a run: rows, files, the summary made from them, and tables for people.

May import: `placement`, `cluster`, the catalog of `scenario`, `policies.view`, and the values of the links'
self-test; never `run`.
"""
