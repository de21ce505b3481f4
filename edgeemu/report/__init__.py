"""From rows to files, summaries and tables.

May import: `placement`, `cluster`, the catalog of `scenario`, `policies.view`, and the values of the links'
self-test; never `run`.
"""
