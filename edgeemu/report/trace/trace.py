"""A run's trace as a file."""

import gzip
from pathlib import Path
from typing import BinaryIO, cast

from edgeemu.report.critical.recorded_steps import read_tokens
from edgeemu.report.facts import RunFacts
from edgeemu.report.figures import RecordTables
from edgeemu.report.new_file import complete_file
from edgeemu.report.trace.chosen_steps import ChosenRecords, Steps, choose_steps
from edgeemu.report.trace.detail import write_critical_paths, write_operations, write_power
from edgeemu.report.trace.events import TraceWriter
from edgeemu.report.trace.overview import write_bandwidth, write_changes, write_conditions, write_memory, write_tokens
from edgeemu.report.trace.tracks import Tracks

_COMPRESSION = 3  # of gzip: a quarter larger than at its best, and three times as fast


def write_trace(path: Path, records: RecordTables, facts: RunFacts, asked: Steps | None = None) -> Steps:
    """Write the trace of a run that has ended, goes on, or was killed.

    Args:
        path: the file, which is replaced when the trace is complete. JSON, compressed by gzip.
        records: tables of the run.
        facts: of the run.
        asked: steps of every sequence whose operations, messages and critical paths are shown; None: from the first on
            as many as open well.

    Returns:
        The steps that are shown.

    Raises:
        RequestError: a trace of so many operations would not open.
        RecordsError: the file cannot be written.
    """
    steps = choose_steps(records, asked)
    with complete_file(path) as file, gzip.GzipFile("", "wb", _COMPRESSION, file, 0) as packed:
        _write(TraceWriter(cast(BinaryIO, packed), _about(facts, steps)), records, facts, steps)
    return steps


def _about(facts: RunFacts, steps: Steps) -> dict[str, str]:
    shown = f"{steps.first}-{steps.end - 1}"
    return {"scenario": facts.scenario, "policy": facts.policy, "model": facts.model, "operations of steps": shown}


def _write(writer: TraceWriter, records: RecordTables, facts: RunFacts, steps: Steps) -> None:
    tracks = Tracks(writer, [device.name for device in facts.devices])
    tokens = read_tokens(records)
    write_tokens(writer, tracks, records)
    write_changes(writer, tracks, records, tokens)
    write_conditions(writer, tracks, records)
    write_memory(writer, tracks, records, tokens)
    write_bandwidth(writer, records, tokens)
    chosen = ChosenRecords(records, steps, tokens)
    write_operations(writer, tracks, chosen, tokens)
    write_power(writer, tracks, chosen, facts.devices)
    write_critical_paths(writer, tracks, chosen)
    writer.end()
