"""Calibration: figures of a device from measurements of it, with edgeemu's own timeline as the model.

In the order of the data: measurements (`measurement`) are read from files (`read_csv`, `read_json`, `read_run`),
predicted (`predictor`), fitted (`fit`), and shown (`fit_tables`, `fit_figure`) and written as a profile
(`profile_text`). `observe` measures a server.
"""
