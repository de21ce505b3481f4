"""Records of a run can be read whenever and however it ended."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.facts import some_facts, token_row

from edgeemu.errors import RequestError
from edgeemu.report.disk import RecordsError
from edgeemu.report.facts import decode_facts
from edgeemu.report.record_files import RecordWriter, read_table
from edgeemu.report.rows import DeviceRow, MigrationRow, OperationRow, Row, TokenRow, schema
from edgeemu.report.run_directory import RunDirectory
from edgeemu.timeline.columns import Coded, Column, Columns

AnyRow = TypeVar("AnyRow", bound=Row)
WHEN = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)


def op(device: str, step: int, block: str = "ffn") -> OperationRow:
    return OperationRow(
        *(device, 0, step, 3, block, 0, 1, 7, 40, 39, 128 * (step % 2), 1e6, 2e6),
        *(0.1 * step, 0.11 * step, 0.2 * step, 0.004, -0.0001, step % 2 == 0),
    )


def test_tables_come_back_as_they_were_written(tmp_path: Path) -> None:
    tokens = [token_row(0, step, 0.5 + 0.1 * step, 0.1) for step in range(5)]
    ops = [op(f"pi{step % 3}", step, block) for step in range(5) for block in ("head", "ffn")]
    moved = [
        MigrationRow(0, 4, 2, f"head(0,{group})", "a", "b", 1 << 33, 1.0, 2.5, 1.5, "committed") for group in (1, 2)
    ]
    with RecordWriter(tmp_path) as writer:
        for row in tokens:
            writer.append("tokens", [row])
        writer.append("tokens", [])
        writer.append("ops", ops[:4])
        writer.append("ops", ops[4:])
        writer.append("migrations", moved)
        assert [row["text"] for row in read_table(tmp_path, "tokens").to_pylist()] == [row.text for row in tokens]
        assert read_table(tmp_path, "ops").to_pylist() == [row._asdict() for row in ops]
    writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "conditions.parquet",
        "decisions.parquet",
        "devices.parquet",
        "faults.parquet",
        "links.parquet",
        "migrations.parquet",
        "ops.parquet",
        "placements.parquet",
        "recoveries.parquet",
        "sequences.parquet",
        "tokens.parquet",
    ]
    for name, rows in (("tokens", tokens), ("ops", ops), ("migrations", moved)):
        table = read_table(tmp_path, name)  # type: ignore[arg-type]
        assert table.schema == schema(name)  # type: ignore[arg-type]
        assert table.to_pylist() == [row._asdict() for row in rows]  # type: ignore[attr-defined]
    assert pq.read_schema(tmp_path / "tokens.parquet").names == list(TokenRow._fields)
    assert pq.read_schema(tmp_path / "ops.parquet").names == list(OperationRow._fields)


def as_columns(kind: type[AnyRow], rows: Sequence[AnyRow]) -> Columns[AnyRow]:
    """Rows by column: names are coded, and None is NaN."""
    columns: list[Column] = []
    for values in zip(*rows, strict=True):
        if isinstance(values[0], str):
            names = sorted(set(values))
            columns.append(Coded(np.array([names.index(each) for each in values]), names))
        else:
            pairs = np.array([values, values], np.float64 if None in values else None)
            columns.append(pairs.T[:, 0])  # as a column of a table is: its numbers do not lie side by side
    return Columns(kind, columns)


def test_columns_come_back_as_their_rows(tmp_path: Path) -> None:
    ops = [op(f"pi{step % 3}", step) for step in range(21)]
    too_large = [row._replace(layer=1 << 15) for row in ops]
    held = [
        DeviceRow("pi", 0, step, 1, 1, 1, 1, 1, 9, 0, 0.0, 0.5, 0.0, None if step % 4 == 1 else 0.5)
        for step in range(21)
    ]
    with RecordWriter(tmp_path) as writer:
        writer.append("ops", as_columns(OperationRow, ops[:20]))
        with pytest.raises(OverflowError, match="int16"):
            writer.append("ops", as_columns(OperationRow, too_large))
        writer.append("ops", as_columns(OperationRow, ops[20:]))
        writer.append("devices", as_columns(DeviceRow, held))
    assert read_table(tmp_path, "ops").to_pylist() == [row._asdict() for row in ops]
    assert read_table(tmp_path, "devices").to_pylist() == [row._asdict() for row in held]


def test_a_run_without_a_token_leaves_empty_tables(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path, "tokens")
    with pytest.raises(RuntimeError, match="in between"), RecordWriter(tmp_path):
        raise RuntimeError("in between")
    assert read_table(tmp_path, "tokens").num_rows == 0
    assert read_table(tmp_path, "ops").schema == schema("ops")


def test_a_row_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        with pytest.raises(ValueError):
            writer.append("tokens", [(1, 2, 3)])  # type: ignore[list-item]
        writer.append("tokens", [token_row(0, 0, 1.0, 1.0)])
    assert read_table(tmp_path, "tokens").num_rows == 1


def test_a_stream_cut_off_anywhere_gives_its_whole_batches(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    ends = []
    for step in range(4):
        writer.append("ops", [op(f"new device {step}", step), op("the same", step)])
        ends.append((tmp_path / "ops.arrows").stat().st_size)
    whole = (tmp_path / "ops.arrows").read_bytes()
    writer.close()
    (tmp_path / "ops.parquet").unlink()
    for length in (*range(0, len(whole), 7), len(whole)):
        (tmp_path / "ops.arrows").write_bytes(whole[:length])
        rows = read_table(tmp_path, "ops").to_pylist()
        assert len(rows) == 2 * sum(end <= length for end in ends)
        assert [row["device"] for row in rows[::2]] == [f"new device {step}" for step in range(len(rows) // 2)]
    assert len(rows) == 8


def changed_bytes(file: Path) -> Iterator[bytes]:
    """The file with each 23rd byte changed."""
    whole = file.read_bytes()
    for at in range(0, len(whole), 23):
        yield whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]


def test_a_damaged_table_is_refused_and_gives_no_other_rows(tmp_path: Path) -> None:
    rows = [token_row(0, step, 0.5 + 0.1 * step, 0.1) for step in range(200)]
    with RecordWriter(tmp_path) as writer:
        writer.append("tokens", rows)
    file = tmp_path / "tokens.parquet"
    refused: list[str] = []
    for damaged in changed_bytes(file):
        file.write_bytes(damaged)
        try:
            assert read_table(tmp_path, "tokens").to_pylist() == [row._asdict() for row in rows]
        except RequestError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(said.startswith(f"{file}: is not a table of a run, or damaged: ") for said in refused)


def test_a_damaged_stream_is_read_or_refused(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        writer.append("ops", [op(f"device {n}", n) for n in range(3)])
        (tmp_path / "whole").write_bytes((tmp_path / "ops.arrows").read_bytes())
    (tmp_path / "ops.parquet").unlink()
    refused = 0
    for damaged in changed_bytes(tmp_path / "whole"):
        (tmp_path / "ops.arrows").write_bytes(damaged)
        try:
            read_table(tmp_path, "ops")
        except RequestError:
            refused += 1
    assert refused


def test_a_stream_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        writer.append("tokens", [token_row(0, 0, 1.0, 1.0)])
        writer.append("ops", [op("a", 0)])
        stream = (tmp_path / "ops.arrows").read_bytes()
    (tmp_path / "tokens.parquet").unlink()
    (tmp_path / "tokens.arrows").write_bytes(stream)
    with pytest.raises(RequestError, match="is not a table of a run, or damaged"):
        read_table(tmp_path, "tokens")


@pytest.mark.parametrize("wrong_s", [math.nan, math.inf, -1e300])
def test_numbers_that_no_run_has_are_refused(tmp_path: Path, wrong_s: float) -> None:
    with RecordWriter(tmp_path) as writer:
        writer.append("tokens", [token_row(0, 0, 1.0, 1.0), token_row(0, 1, wrong_s, 1.0)])
    with pytest.raises(RequestError, match="_s has a value that is not a finite number"):
        read_table(tmp_path, "tokens")


@pytest.mark.parametrize("wrong", [-1, 2**31 - 1])
def test_a_sequence_that_no_run_has_is_refused(tmp_path: Path, wrong: int) -> None:
    with RecordWriter(tmp_path) as writer:
        writer.append("tokens", [token_row(0, 0, 1.0, 1.0), token_row(wrong, 0, 1.0, 1.0)])
    with pytest.raises(RequestError, match="sequence has the values"):
        read_table(tmp_path, "tokens")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mode": "another"}, "Invalid enum value 'another'"),
        ({"ended": "maybe"}, "Invalid enum value 'maybe'"),
        ({"radio": {"by_device_j": [1.0], "missing": ""}}, "radio.by_device_j is not one value for each device"),
        ({"dilation": 0.0}, "Expected `float` > 0.0"),
        ({"devices": [{"name": "a", "cap_bytes": 0, "idle_w": 1, "busy_w": 2}]}, "Expected `int` >= 1"),
        ({"resident_bytes": {"pi": 2**63}}, "Expected `int` <="),
        ({"devices": [{}]}, "Object missing required field `name`"),
        ({"version": 1}, "records of version 1"),
    ],
)
def test_facts_that_do_not_fit_are_refused(change: dict[str, Any], says: str) -> None:
    text = json.dumps(asdict(some_facts()) | change).encode()
    with pytest.raises(RequestError, match=f"^facts.json: .*{says}"):
        decode_facts(text, "facts.json")


@pytest.mark.parametrize("text", [b"", b"\xff", b'{"version": 4, "scenario": "\xff"}', b'{"a":' * 5000, b"[]"])
def test_what_is_no_facts_is_refused(text: bytes) -> None:
    with pytest.raises(RequestError, match=r"^facts.json: not the facts of a run: "):
        decode_facts(text, "facts.json")


WRITER = """
import os, signal, sys
from pathlib import Path
from edgeemu.report.record_files import RecordWriter
from edgeemu.report.rows import TokenRow

writer = RecordWriter(Path(sys.argv[1]))
for step in range(10):
    writer.append("tokens", [TokenRow(0, step, step, "x", 0.5, 1.0, 1.0, 1.0, 1.0)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_can_be_read(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read_table(tmp_path, "tokens").column("step").to_pylist() == list(range(10))


def test_run_directories_are_named_by_scenario_time_and_policy(tmp_path: Path) -> None:
    base = tmp_path / "deep" / "runs"
    local = WHEN.astimezone(timezone(timedelta(hours=5)))
    made = [RunDirectory.create(base, "quick start/1", "mine.py:MyPolicy", when).path for when in (WHEN, local)]
    assert [path.name for path in made] == [
        "quick-start-1-20260301T123005Z-mine.py-MyPolicy",
        "quick-start-1-20260301T123005Z-mine.py-MyPolicy-2",
    ]
    assert RunDirectory.create(base, "..", "/", WHEN).path.name == "unnamed-20260301T123005Z-unnamed"


def test_small_files_appear_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory(tmp_path)
    run.write_meta({"seed": 1, "blas": "OpenBLAS"})
    run.write_scenario("name: x\n")
    run.write_summary({"text": ["Größe"], "tpot_ms": {"mean": math.nan, "all": (1.0, math.inf)}})
    assert json.loads((tmp_path / "summary.json").read_text()) == {
        "text": ["Größe"],
        "tpot_ms": {"mean": None, "all": [1.0, None]},
    }

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RecordsError, match=r"meta\.json: disk full"):
        run.write_meta({"seed": 2})
    assert not list(tmp_path.glob(".*"))
    assert json.loads((tmp_path / "meta.json").read_text())["seed"] == 1
    assert (tmp_path / "scenario.yaml").read_text() == "name: x\n"
