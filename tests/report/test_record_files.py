"""A run's records can be read whenever and however it ended, and its summary is exact."""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemu.report.record_files import RecordWriter, read_table
from edgeemu.report.rows import MigrationRow, OperationRow, TokenRow, schema
from edgeemu.report.run_directory import RunDirectory, to_json
from edgeemu.report.statistics import percentile
from edgeemu.report.summary import DeviceMemory, summarise

WHEN = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)


def token(sequence: int, step: int, emulated_s: float, latency_s: float) -> TokenRow:
    return TokenRow(sequence, step, 100 + step, f" w{step}", emulated_s, latency_s, 2 * emulated_s, 1.1 * latency_s)


def op(device: str, step: int, block: str = "ffn") -> OperationRow:
    return OperationRow(
        device, 0, step, 3, block, 0, 1, 0.1 * step, 0.11 * step, 0.2 * step, 0.004, -0.0001, step % 2 == 0
    )


def test_tables_come_back_as_they_were_written(tmp_path: Path) -> None:
    tokens = [token(0, step, 0.5 + 0.1 * step, 0.1) for step in range(5)]
    ops = [op(f"pi{step % 3}", step, block) for step in range(5) for block in ("head", "ffn")]
    moved = [
        MigrationRow(0, 4, 2, f"head(0,{group})", "a", "b", 1 << 33, 1.0, 2.5, 1.5, "committed") for group in (1, 2)
    ]
    with RecordWriter(tmp_path) as writer:
        for row in tokens:
            writer.append_tokens([row])
        writer.append_tokens([])
        writer.append_ops(ops[:4])
        writer.append_ops(ops[4:])
        writer.append_migrations(moved)
        assert [row["text"] for row in read_table(tmp_path, "tokens").to_pylist()] == [row.text for row in tokens]
        assert read_table(tmp_path, "ops").to_pylist() == [row._asdict() for row in ops]
    writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "migrations.parquet",
        "ops.parquet",
        "sequences.parquet",
        "tokens.parquet",
    ]
    for name, rows in (("tokens", tokens), ("ops", ops), ("migrations", moved)):
        table = read_table(tmp_path, name)  # type: ignore[arg-type]
        assert table.schema == schema(name)  # type: ignore[arg-type]
        assert table.to_pylist() == [row._asdict() for row in rows]  # type: ignore[attr-defined]
    assert pq.read_schema(tmp_path / "tokens.parquet").names == list(TokenRow._fields)
    assert pq.read_schema(tmp_path / "ops.parquet").names == list(OperationRow._fields)


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
            writer.append_tokens([(1, 2, 3)])  # type: ignore[list-item]
        writer.append_tokens([token(0, 0, 1.0, 1.0)])
    assert read_table(tmp_path, "tokens").num_rows == 1


def test_a_stream_cut_off_anywhere_gives_its_whole_batches(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    ends = []
    for step in range(4):
        writer.append_ops([op(f"new device {step}", step), op("the same", step)])
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


WRITER = """
import os, signal, sys
from pathlib import Path
from edgeemu.report.record_files import RecordWriter
from edgeemu.report.rows import TokenRow

writer = RecordWriter(Path(sys.argv[1]))
for step in range(10):
    writer.append_tokens([TokenRow(0, step, step, "x", 1.0, 1.0, 1.0, 1.0)])
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
    with pytest.raises(OSError, match="disk full"):
        run.write_meta({"seed": 2})
    assert json.loads((tmp_path / "meta.json").read_text())["seed"] == 1
    assert (tmp_path / "scenario.yaml").read_text() == "name: x\n"


def test_the_summary_of_two_sequences() -> None:
    tokens = [
        token(0, 0, 2.0, 1.5),
        token(1, 0, 4.0, 0.5),  # in any order
        token(0, 2, 3.5, 1.0),
        token(0, 1, 2.5, 0.5),
        token(1, 1, 4.5, 0.5),
    ]
    memory = {"pi": DeviceMemory(10, 100), "nano": DeviceMemory(30, 90)}
    summary = summarise(
        scenario="quickstart",
        policy="greedy",
        model="tiny",
        devices=2,
        tokens=tokens,
        memory=memory,
        controller_s=[0.001, 0.003],
        certificate={"verdict": "PASS"},
    )
    later = [500.0, 500.0, 1000.0]
    assert summary["text"] == [" w0 w1 w2", " w0 w1"]
    assert summary["tokens"] == [[100, 101, 102], [100, 101]]
    assert summary["ttft_ms"]["mean"] == pytest.approx(1000.0)
    assert summary["tpot_ms"]["mean"] == pytest.approx(statistics.mean(later))
    assert summary["tpot_ms"]["p95"] == pytest.approx(np.percentile(later, 95))
    assert summary["throughput_tok_s"] == pytest.approx(5 / (4.5 - 0.5))
    assert summary["wall"]["inflation"] == pytest.approx(1.1)
    assert summary["wall"]["tpot_ms"]["p50"] == pytest.approx(550.0)
    assert summary["migrations"] == {"count": 0, "bytes": 0, "ms": 0.0}
    assert summary["memory"] == {
        "peak_bytes_max": 30,
        "by_device": {
            "pi": {"peak_bytes": 10, "cap_bytes": 100},
            "nano": {"peak_bytes": 30, "cap_bytes": 90},
        },
    }
    assert summary["controller_ms"] == pytest.approx({"mean": 2.0, "p99": 2.98})
    assert summary["certificate"] == {"verdict": "PASS"}
    assert json.loads(to_json(summary)) == summary


@pytest.mark.parametrize("tokens", [[], [token(0, 0, 1.0, 1.0)]])
def test_where_there_is_no_sample_there_is_null(tokens: list[TokenRow]) -> None:
    summary = summarise(
        scenario="s",
        policy="p",
        model="m",
        devices=1,
        tokens=tokens,
        memory={},
        controller_s=[],
        certificate={},
        texts=["as the tokenizer says"],
    )
    assert summary["tpot_ms"] == {"mean": None, "p50": None, "p95": None, "p99": None}
    assert summary["wall"]["inflation"] is None
    assert summary["controller_ms"] == {"mean": None, "p99": None}
    assert summary["throughput_tok_s"] == (1.0 if tokens else None)
    assert summary["text"] == ["as the tokenizer says"]
    assert "NaN" not in to_json(summary)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 100))
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    assert percentile(sorted(values), percent) == pytest.approx(np.percentile(values, percent), rel=1e-9, abs=1e-9)
