"""Rows of a run reach the disk within half a second, and all of them when it has failed."""

import asyncio
from pathlib import Path

import pytest

from edgeemu.report.record_files import RecordWriter, read_table
from edgeemu.report.rows import TokenRow
from edgeemu.run.buffered_records import TICK_S, buffered


def token(step: int) -> TokenRow:
    return TokenRow(0, step, step, "x", 1.0, 1.0, 0.1, 1.0, 0.1)


def test_a_clock_has_rows_written_while_nothing_happens(tmp_path: Path) -> None:
    async def run() -> None:
        async with buffered(RecordWriter(tmp_path)) as records:
            records.append("tokens", [token(0)])
            assert read_table(tmp_path, "tokens").num_rows == 0
            async with asyncio.timeout(40 * TICK_S):
                while read_table(tmp_path, "tokens").num_rows == 0:
                    await asyncio.sleep(0.1 * TICK_S)
            records.append("tokens", [token(1)])
            assert (tmp_path / "tokens.arrows").is_file()

    asyncio.run(run())
    assert read_table(tmp_path, "tokens").column("step").to_pylist() == [0, 1]
    assert (tmp_path / "tokens.parquet").is_file()


def test_a_run_that_fails_leaves_all_its_rows(tmp_path: Path) -> None:
    async def run() -> None:
        async with buffered(RecordWriter(tmp_path)) as records:
            records.append("tokens", [token(0), token(1)])
            raise RuntimeError("a device died")

    with pytest.raises(RuntimeError, match="a device died"):
        asyncio.run(run())
    assert read_table(tmp_path, "tokens").num_rows == 2
