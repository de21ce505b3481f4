"""The summary of a run is exact, whatever the size of its batches, and is made from records and facts alone."""

import json
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.facts import some_facts, token_row

from edgeemu.report import record_files
from edgeemu.report.facts import DeviceFacts
from edgeemu.report.figures import operation_figures
from edgeemu.report.record_files import RecordWriter, RunRecords
from edgeemu.report.rows import DecisionRow, DeviceRow, MigrationRow, OperationRow, SequenceRow, TokenRow
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.report.run_directory import to_json
from edgeemu.report.statistics import BatchedPercentile, ExactSum, percentile
from edgeemu.report.summary import summarise
from edgeemu.report.usage_tables import usage_tables

finite = st.floats(-1e6, 1e6)


def ended(sequence: int, tail_text: str) -> SequenceRow:
    return SequenceRow(sequence, 3, 2, 0.0, 0.0, 0.0, 1.0, 1.0, 4.0, "length", None, tail_text)


def op(device: str, start_s: float, end_s: float) -> OperationRow:
    return OperationRow(device, 0, 0, 0, "ffn", 0, 1, 0, 0, -1, 0, 1e6, 1e6, start_s, start_s, end_s, 0.0, 0.0, False)


def device(name: str, peak_bytes: int, reordered: int) -> DeviceRow:
    return DeviceRow(name, 0, 0, 1, 1, 1, 1, 1, peak_bytes, reordered, 0.0, 0.0, 0.0, None)


def two_sequences() -> RowsInMemory:
    records = RowsInMemory()
    rows = [
        token_row(0, 0, 2.0, 1.5),
        token_row(1, 0, 4.0, 0.5),  # in any order
        token_row(0, 2, 3.5, 1.0),
        token_row(0, 1, 2.5, 0.5),
        token_row(1, 1, 4.5, 0.5),
    ]
    records.append("tokens", rows)
    return records


def test_the_summary_of_two_sequences() -> None:
    records = two_sequences()
    records.append("decisions", [DecisionRow(0, 1, "decided", took_s, 2 * took_s, "") for took_s in (0.001, 0.003)])
    summary = summarise(records, some_facts(peak_bytes={"pi": 10, "nano": 30}))
    later = [500.0, 500.0, 1000.0]
    assert summary["text"] == [" w0 w1 w2", " w0 w1"]
    assert summary["tokens"] == [[100, 101, 102], [100, 101]]
    assert summary["ttft_ms"]["mean"] == pytest.approx(1000.0)
    assert summary["tpot_ms"]["mean"] == pytest.approx(statistics.mean(later))
    assert summary["tpot_ms"]["p95"] == pytest.approx(np.percentile(later, 95))
    assert summary["throughput_tok_s"] == pytest.approx(5 / (4.5 - 0.5))
    assert summary["wall"]["inflation"] == pytest.approx(1.1)
    assert summary["wall"]["tpot_ms"]["p50"] == pytest.approx(550.0)
    assert summary["migrations"] == {"count": 0, "bytes": 0, "ms": 0.0, "changes": 0, "aborted": 0}
    unknown = dict.fromkeys(("weights_bytes", "resident_bytes", "baseline_bytes", "group_peak_bytes"))
    assert summary["memory"] == {
        "peak_bytes_max": 30,
        "by_device": {
            "pi": {"peak_bytes": 10, "cap_bytes": 100, "reserved_bytes": 0, **unknown},
            "nano": {"peak_bytes": 30, "cap_bytes": 90, "reserved_bytes": 7, **unknown},
        },
    }
    assert summary["controller_ms"] == pytest.approx({"mean": 2.0, "p99": 2.98})
    assert summary["decisions"]["charged_ms"] == pytest.approx(4.0)
    assert (summary["certificate"]["verdict"], summary["basis"]) == ("UNCHECKED", None)
    assert json.loads(to_json(summary)) == summary


@pytest.mark.parametrize("tokens", [[], [token_row(0, 0, 1.0, 1.0)]])
def test_where_there_is_no_sample_there_is_null(tokens: list[TokenRow]) -> None:
    records = RowsInMemory()
    records.append("tokens", tokens)
    summary = summarise(records, some_facts(devices=[]))
    assert summary["tpot_ms"] == {"mean": None, "p50": None, "p95": None, "p99": None}
    assert summary["wall"]["inflation"] is None
    assert summary["controller_ms"] == {"mean": 2.0, "p99": 2.0}  # of the first placement
    assert summary["throughput_tok_s"] == (1.0 if tokens else None)
    assert summary["memory"]["peak_bytes_max"] == 0
    assert summary["idle"] is None
    assert "NaN" not in to_json(summary)


def test_a_text_ends_with_what_the_tokenizer_adds_at_the_end() -> None:
    records = two_sequences()
    records.append("sequences", [ended(1, "\N{REPLACEMENT CHARACTER}"), ended(0, "")])
    summary = summarise(records, some_facts())
    assert summary["text"] == [" w0 w1 w2", " w0 w1\N{REPLACEMENT CHARACTER}"]
    assert [row["sequence"] for row in summary["sequences"]] == [0, 1]


def test_a_killed_run_is_told_by_its_table_of_devices() -> None:
    records = two_sequences()
    records.append("devices", [device("pi", 7, 0), device("nano", 9, 2), device("pi", 8, 1)])
    summary = summarise(records, some_facts())
    assert summary["ended"] == "unfinished"
    assert {name: used["peak_bytes"] for name, used in summary["memory"]["by_device"].items()} == {"pi": 8, "nano": 9}
    assert summary["certificate"]["reordered"] == 3
    assert summary["energy_j"] is None
    assert "did not end" in summary["energy"]["missing"]


def test_decisions_and_migrations_are_counted_from_their_tables() -> None:
    records = two_sequences()
    late = "p was not asked again after sequence 0, step 9: late 3 times in a row"
    rows = [
        DecisionRow(0, 3, "decided", 0.5, 0.0, ""),
        DecisionRow(0, 3, "refused", None, None, "nano is full"),
        DecisionRow(0, 9, "decided", 1.5, 0.0, "too late"),
        DecisionRow(0, 9, "given up", None, None, late),
    ]
    records.append("decisions", rows)
    moves = [(1, 0.5, "committed"), (1, 0.5, "committed"), (2, 0.0, "aborted: nano is full"), (3, 0.25, "committed")]
    migrated = [MigrationRow(0, 3, n, "ffn(0)", "pi", "nano", 10, 1.0, 2.0, s, why) for n, s, why in moves]
    records.append("migrations", migrated)
    summary = summarise(records, some_facts())
    problems = ["sequence 0, step 3: nano is full", "sequence 0, step 9: too late", late]
    of_token = 2.0 / 3 / (summary["tpot_ms"]["mean"] / 1000)
    assert summary["decisions"].pop("of_token") == pytest.approx(of_token), "two seconds in three later tokens"
    told = {"count": 2, "problems": problems, "given_up": late}
    assert summary["decisions"] == {**told, "charged_ms": 0.0, "on": None}
    assert summary["controller_ms"]["mean"] == 1000.0
    assert summary["migrations"] == {"count": 3, "bytes": 40, "ms": 750.0, "changes": 2, "aborted": 1}


def test_utilisation_is_work_over_what_the_device_could_have_done_meanwhile() -> None:
    records = two_sequences()
    records.append("ops", [op("pi", 0.0, 0.25), op("pi", 0.5, 0.75), op("nano", 0.0, 0.5)])  # 1e6 of either each
    records.append("devices", [device("pi", 1, 0), device("nano", 1, 0)])
    relative = [DeviceFacts(name, 9, None, None) for name in ("nano", "unused")]
    devices = [DeviceFacts("pi", 9, None, None, 0, 8e6, 5e6), *relative]
    summary = summarise(records, some_facts(devices=devices))
    assert summary["utilisation"] == {
        "pi": {"mbu": pytest.approx(0.8), "mfu": pytest.approx(0.5)},
        "nano": {"mbu": None, "mfu": None},
    }
    table, *_ = usage_tables(records, summary["utilisation"])
    at = table.columns.index(">MBU")
    assert table.columns[at + 1] == ">MFU"
    assert {row[0]: row[at : at + 2] for row in table.rows} == {"pi": ["80 %", "50 %"], "nano": ["–", "–"]}


@given(st.lists(st.tuples(st.sampled_from("abc"), finite, finite), max_size=40), st.integers(1, 9))
def test_sums_do_not_depend_on_batches(times: list[tuple[str, float, float]], size: int) -> None:
    class InBatches(RowsInMemory):
        def read(self, table, columns=None):  # type: ignore[no-untyped-def]
            for rows in super().read(table, columns):
                yield from (rows.slice(begin, size) for begin in range(0, rows.num_rows, size))

    records = InBatches()
    records.append("ops", [op(*each) for each in times])
    figures = operation_figures(records)
    expected: dict[str, float] = {}
    for name, start_s, end_s in times:
        expected[name] = expected.get(name, 0.0) + (end_s - start_s)
    assert list(figures.busy_s.items()) == list(expected.items())  # to the last bit, and in the same order
    exact = {name: math.fsum(end_s - start_s for who, start_s, end_s in times if who == name) for name in expected}
    assert figures.exact_busy_s == exact


@given(st.lists(st.lists(finite, max_size=20), max_size=10))
def test_an_exact_sum_is_fsum(batches: list[list[float]]) -> None:
    total = ExactSum()
    for batch in batches:
        total.add(batch)
    assert total.value == math.fsum(value for batch in batches for value in batch)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 100))
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    assert percentile(sorted(values), percent) == pytest.approx(np.percentile(values, percent), rel=1e-9, abs=1e-9)


@given(st.lists(finite, max_size=400), st.integers(1, 50), st.floats(0, 100))
def test_a_percentile_of_batches_is_that_of_all_values(values: list[float], size: int, percent: float) -> None:
    batches = (np.array(values[begin : begin + size]) for begin in range(0, len(values), size))
    expected = percentile(sorted(values), percent) if values else 0.0
    found = BatchedPercentile(len(values), percent)
    for batch in batches:
        found.add(batch)
    assert found.value == expected


@pytest.mark.parametrize("finished", [True, False])
def test_the_summary_of_files_is_that_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool) -> None:
    monkeypatch.setattr(record_files, "BATCH_ROWS", 3)
    records = two_sequences()
    records.append("ops", [op(f"d{n % 3}", 0.1 * n, 0.1 * n + 0.01 * n) for n in range(20)])
    records.append("sequences", [ended(0, ""), ended(1, "!")])
    with RecordWriter(tmp_path) as writer:
        for table, rows in records.rows.items():
            for row in rows:
                writer.append(table, [row])
        unfinished = summarise(RunRecords(tmp_path), some_facts())
    found = summarise(RunRecords(tmp_path), some_facts()) if finished else unfinished
    assert found == summarise(records, some_facts())
