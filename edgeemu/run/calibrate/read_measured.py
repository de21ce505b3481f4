"""Measurements from files and directories of any known kind, and which of their rows are fitted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from edgeemu.errors import RequestError
from edgeemu.run.calibrate.left_out import LeftOut
from edgeemu.run.calibrate.measurement import Measurement
from edgeemu.run.calibrate.read_csv import Defaults, Row, chosen, measurement, read_rows
from edgeemu.run.calibrate.read_json import BENCHED, read_json
from edgeemu.run.calibrate.read_run import is_run, read_run
from edgeemu.scenario.catalog.engines import IDEAL, EngineEntry, engine_entry

Conditions = Mapping[str, Sequence[str]]  # by column of a CSV file, the texts that it may have


class Measured(NamedTuple):
    """Measurements, the engine that ran, and why rows that cannot be used are left out: file, row and reason."""

    engine: EngineEntry
    rows: list[Measurement]
    left_out: list[str]


def read_measured(
    paths: Sequence[Path], engine: str | None, defaults: Defaults, only: Conditions, fit: Conditions
) -> Measured:
    """Read all measurements. `only` chooses rows of CSV files; of those, rows that do not match `fit` are predicted.

    `engine`: that ran; None: as runs and llama-bench say, else `ideal`.

    Raises `RequestError`: a file is of no known kind, no row can be used, rows are of several devices or of another
            engine.
    """
    left_out = LeftOut()
    found: list[Measurement] = []
    tables: list[Path] = []
    for path in paths:
        if is_run(path):
            found += read_run(path)
        elif path.suffix in (".json", ".jsonl"):
            found += read_json(path, defaults, left_out)
        else:
            tables.append(path)
    software = _software(engine, found)
    for path in tables:
        found += _of_csv(path, software, defaults, only, fit, left_out)
    if not found:
        raise left_out.none_left(", ".join(map(str, paths)))
    devices = Counter(row.device for row in found if row.device)
    if len(devices) > 1:
        how = "--only device=NAME of a CSV file, or --device of edgeemu calibrate"
        raise RequestError(f"has rows of several devices ({', '.join(sorted(devices))}): choose one with {how}")
    return Measured(software, found, list(map(str, left_out.errors)))


def _software(given: str | None, rows: Sequence[Measurement]) -> EngineEntry:
    """The engine that ran. llama-bench measures llama.cpp over RPC, too."""
    told = {row.engine: row.where for row in rows if row.engine is not None}
    name = given or next(iter(told), IDEAL)
    try:
        entry = engine_entry(name)
    except RequestError as error:
        raise RequestError(error.message, field="--engine") from None
    for engine, where in told.items():
        if engine != name and not (engine == BENCHED and name.startswith(BENCHED)):
            raise RequestError(f"was measured with {engine}, and not with {name}", file=where)
    return entry


def _of_csv(
    path: Path, engine: EngineEntry, defaults: Defaults, only: Conditions, fit: Conditions, left_out: LeftOut
) -> list[Measurement]:
    rows = chosen(list(read_rows(path, left_out)), only, str(path))
    fitted = {row.where for row in chosen(rows, fit, str(path))}
    made = left_out.usable(rows, lambda row: _measurement(row, engine, defaults))
    return [replace(each, fitted=each.where in fitted) for each in made]


def _measurement(row: Row, engine: EngineEntry, defaults: Defaults) -> Measurement:
    """Measurement of a row; where it does not say how many sequences run at once, as many as under the engine."""
    made = measurement(row, defaults)
    if "sequences" not in row.texts and engine.one_sequence_per_node and made.phase == "decode":
        return replace(made, sequences=made.nodes)
    return made
