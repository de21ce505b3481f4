"""The directory of a run as an input, as it is after its end and as a killed run leaves it, and how it is reported."""

import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import get_args

from edgeemu.errors import RequestError
from edgeemu.report.critical.breakdown import breakdown, breakdown_lines, breakdown_tables
from edgeemu.report.critical.critical_path import critical_paths
from edgeemu.report.record_files import RecordWriter, read_table
from edgeemu.report.rows import TableName
from edgeemu.report.run_directory import FACTS, RunDirectory
from edgeemu.report.summary import summarise
from edgeemu.report.summary_tables import summary_lines, summary_tables
from edgeemu.report.usage_tables import usage_tables
from fuzzing.corpora import FILES_SCENARIO
from fuzzing.inputs import Editor, Files, as_json


@cache
def runs() -> tuple[Files, Files]:
    """Files of a simulated run that has ended, and of one that was killed."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        scenario = Path(scratch) / "scenario.yaml"
        scenario.write_text(FILES_SCENARIO % ("", "[{tokens: 3}]", ""))
        command = [sys.executable, "-m", "edgeemu", "simulate", str(scenario), "--json", "--out", f"{scratch}/runs"]
        subprocess.run(command, check=True, capture_output=True)
        [run] = (Path(scratch) / "runs").iterdir()
        ended = {file.name: file.read_bytes() for file in run.iterdir() if file.suffix == ".parquet"}
        facts = {FACTS: (run / FACTS).read_bytes()}
        streams = Path(scratch) / "streams"
        streams.mkdir()
        with RecordWriter(streams) as writer:
            for name in get_args(TableName):
                for row in read_table(run, name).to_pylist():
                    writer.append(name, [tuple(row.values())])
            killed = {file.name: file.read_bytes() for file in streams.glob("*.arrows")}
        return facts | ended, facts | killed


def make(editor: Editor) -> Files:
    files = editor.choose(runs())
    name = FACTS if editor.odds(0.4) else editor.choose(sorted(files))
    if name == FACTS and editor.odds(0.7):
        return files | {name: as_json(editor.edited_tree([json.loads(files[name])], ["simulated", "unfinished"]))}
    return files | {name: editor.edited([files[name]])}


def report(directory: Path) -> None:
    """As `edgeemu report` does. Arrow takes what a damaged page says that it needs, up to 2 GiB, before it reads it."""
    run = RunDirectory.find(directory)
    try:
        summary = summarise(run.records, run.read_facts())
    except RequestError as error:
        raise (RequestError(str(error)) if isinstance(error.__cause__, MemoryError) else error) from None
    lost = breakdown(critical_paths(run.records))
    used = summary["utilisation"]
    tables = *summary_tables(summary), *usage_tables(run.records, used), *breakdown_tables(lost, used)
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert all(isinstance(line, str) for line in (*summary_lines(summary), *breakdown_lines(lost)))
