"""Measurements from files and directories of any known kind, and which of their rows are fitted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgeemu.errors import RequestError
from edgeemu.run.calibrate.measurement import Measurement
from edgeemu.run.calibrate.read_csv import Defaults, Row, chosen, measurement, read_rows
from edgeemu.run.calibrate.read_json import read_json
from edgeemu.run.calibrate.read_run import is_run, read_run
from edgeemu.scenario.catalog.engines import EngineEntry

Conditions = Mapping[str, Sequence[str]]  # by column of a CSV file, the texts that it may have


def read_measured(
    paths: Sequence[Path], engine: EngineEntry, defaults: Defaults, only: Conditions, fit: Conditions
) -> list[Measurement]:
    """Read all measurements. `only` chooses rows of CSV files; of those, rows that do not match `fit` are predicted.

    Raises `RequestError`: a file is of no known kind, a row is wrong, or rows are of several devices.
    """
    found: list[Measurement] = []
    for path in paths:
        if is_run(path):
            found += read_run(path)
        elif path.suffix == ".json" or path.suffix == ".jsonl":
            found += read_json(path, defaults)
        else:
            found += _of_csv(path, engine, defaults, only, fit)
    if not found:
        raise RequestError("has no row", file=", ".join(map(str, paths)))
    devices = Counter(row.device for row in found if row.device)
    if len(devices) > 1:
        raise RequestError(f"has rows of several devices: choose one with --device ({', '.join(sorted(devices))})")
    return found


def _of_csv(
    path: Path, engine: EngineEntry, defaults: Defaults, only: Conditions, fit: Conditions
) -> list[Measurement]:
    rows = chosen(read_rows(path), only, str(path))
    fitted = {row.where for row in chosen(rows, fit, str(path))}
    return [replace(_measurement(row, engine, defaults), fitted=row.where in fitted) for row in rows]


def _measurement(row: Row, engine: EngineEntry, defaults: Defaults) -> Measurement:
    """Measurement of a row; where it does not say how many sequences run at once, as many as under the engine."""
    made = measurement(row, defaults)
    if "sequences" not in row.texts and engine.one_sequence_per_node and made.phase == "decode":
        return replace(made, sequences=made.nodes)
    return made
