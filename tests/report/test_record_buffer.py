"""Rows that wait are written together, in their order, at the latest at the second tick."""

from pathlib import Path

import numpy as np
import pytest
from support.facts import token_row

from edgeemu.report import record_buffer
from edgeemu.report.disk import RecordsError
from edgeemu.report.record_buffer import RecordBuffer
from edgeemu.report.record_files import RecordWriter, read_table
from edgeemu.report.rows import ConditionRow, TokenRow
from edgeemu.timeline.columns import Coded, Columns, joined


def token(step: int) -> TokenRow:
    return token_row(0, step, float(step), 0.1)


def conditions(names: list[str], codes: list[int], step: int) -> Columns[ConditionRow]:
    n = len(codes)
    numbers = [np.zeros(n, np.int64), np.full(n, step), np.full(n, 0.5 * step), np.linspace(0.5, 1.0, n)]
    return Columns(ConditionRow, [Coded(np.array(codes), names), *numbers, np.arange(n)])


def steps(path: Path) -> list[int]:
    found: list[int] = read_table(path, "tokens").column("step").to_pylist()
    return found


def test_rows_are_written_in_calm_moments_or_at_the_second_tick(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        buffer = RecordBuffer(writer)
        buffer.append("tokens", [token(0)])
        buffer.may_write()
        assert steps(tmp_path) == [], "no tick yet"
        buffer.tick()
        buffer.append("tokens", [token(1)])
        assert steps(tmp_path) == []
        buffer.may_write()
        assert steps(tmp_path) == [0, 1]
        buffer.tick()
        buffer.append("tokens", [token(2)])
        buffer.tick()
        assert steps(tmp_path) == [0, 1], "nothing waited at the tick before"
        buffer.tick()
        assert steps(tmp_path) == [0, 1, 2]
        buffer.append("tokens", [token(3)])
        buffer.flush()
        assert steps(tmp_path) == [0, 1, 2, 3]


def test_many_rows_are_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_buffer, "MAX_ROWS", 3)
    with RecordWriter(tmp_path) as writer:
        buffer = RecordBuffer(writer)
        for step in range(5):
            buffer.append("tokens", [token(step)])
        assert steps(tmp_path) == [0, 1, 2]


def test_rows_and_columns_keep_their_order(tmp_path: Path) -> None:
    pieces = [
        conditions(["a", "b"], [1, 0, 1], 0),
        conditions(["a", "b"], [0], 1),
        conditions(["c", "b"], [0, 1], 2),
        [ConditionRow("a", 0, 3, 1.5, 0.25, 7)],
        conditions(["d"], [0], 4),
    ]
    assert list(joined(pieces[:3])) == [row for piece in pieces[:3] for row in piece]  # type: ignore[arg-type]
    with RecordWriter(tmp_path) as writer:
        buffer = RecordBuffer(writer)
        for piece in pieces:
            buffer.append("conditions", piece)
        buffer.flush()
    rows = [row._asdict() for piece in pieces for row in piece]
    assert read_table(tmp_path, "conditions").to_pylist() == rows
    assert [row["device"] for row in rows] == ["b", "a", "b", "a", "c", "b", "a", "d"]


def test_a_refusal_is_told_again_and_other_tables_are_written(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    buffer = RecordBuffer(writer)
    (tmp_path / "tokens.arrows").unlink()
    buffer.append("tokens", [token(0)])
    buffer.append("conditions", [ConditionRow("a", 0, 0, 1.5, 0.25, 7)])
    for _ in range(2):
        with pytest.raises(RecordsError, match=r"tokens\.arrows: was removed"):
            buffer.flush()
    with pytest.raises(RecordsError, match=r"tokens\.arrows: was removed"):
        buffer.append("conditions", [ConditionRow("a", 0, 0, 1.5, 0.25, 7)])
    with pytest.raises(RecordsError):
        writer.close()
    assert read_table(tmp_path, "conditions").num_rows == 1
