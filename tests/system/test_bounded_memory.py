"""A run keeps no rows in memory: ten times the tokens need no more, but for what summary.json itself lists of each."""

import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
import uvloop

from edgeemu.report import record_buffer, record_files
from edgeemu.report.record_files import read_tables
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

LONG = """
name: long
model:
  shape: {n_layers: 2, d_model: 8, n_heads: 2, n_kv_heads: 2, head_dim: 4, d_ff: 8, vocab_size: 9, max_context: 9000}
devices: [{name: a, count: 2, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 8 MiB}]
network: {default: {bandwidth: 1 Gbit/s, delay: 1 ms}}
policy: round-robin
decisions: {interval: 16}
workload: {prompts: [{tokens: 2}], max_tokens: 1}
"""
TOKENS = 120
LISTED_BYTES = 150  # of each token: its number and text in the summary, and its latencies while percentiles are taken


def peaks_bytes(tokens: int, out: Path) -> tuple[int, int, int]:
    """Peak of Python's memory, of Arrow's, and the number of rows that the run has recorded."""
    scenario = parse_scenario(LONG, "long", [f"workload.max_tokens={tokens}"])
    pool = pa.system_memory_pool()
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        made = uvloop.run(run_scenario(scenario, policy=None, out=out, observer=Silent(), simulate=True))
        rows = sum(table.num_rows for table in read_tables(made.directory, "ops", ["step"]))
        return tracemalloc.get_traced_memory()[1], pool.max_memory(), rows
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


@pytest.mark.long
def test_a_long_run_needs_no_more_memory_than_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "BATCH_ROWS", 512)
    monkeypatch.setattr(record_files, "BATCH_PIECES", 64)
    monkeypatch.setattr(record_buffer, "MAX_ROWS", 256)
    peaks_bytes(TOKENS, tmp_path)  # what is loaded once
    short, short_arrow, rows = peaks_bytes(TOKENS, tmp_path)
    long, long_arrow, many_rows = peaks_bytes(10 * TOKENS, tmp_path)
    assert many_rows == pytest.approx(10 * rows)
    assert long - short < 9 * TOKENS * LISTED_BYTES
    assert long_arrow - short_arrow < 9 * TOKENS * LISTED_BYTES
