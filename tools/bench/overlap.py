"""Wall time of several sequences in virtual time, over that of one step after the other. Status 1 if a limit is missed.

    python tools/bench/overlap.py            # a minute; two processors that nothing else keeps busy
    python tools/bench/overlap.py --json
    python tools/bench/overlap.py --set model=smollm2-135m-instruct --set precision.weights=f32

Eight layers as wide as TinyLlama's are on four boards, two on each, with weights in `q4_0`: kernels are nine tenths
of the time, and two processors do not wait for one memory, as they do for float32. Runs take turns: as they are, and
with each step awaited before the next one begins. Of each the lower quartile counts of what rounds of tokens have
taken, one of each sequence. So does the processor time of all processes for a token, which must not grow.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # OpenBLAS looks when NumPy is imported

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import uvloop
from measure import Figure, report
from numpy.typing import NDArray
from operation_cost import Meter

from edgeemu.run.processes import backend
from edgeemu.run.processes.virtual_time import VirtualTime
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
model:
  shape: {n_layers: 8, d_model: 2048, n_heads: 32, n_kv_heads: 4, head_dim: 64, d_ff: 5632, vocab_size: 1024,
    max_context: 128}
precision: {weights: q4_0}
devices: [{name: board, count: 4, gflops: 50 GFLOPS, mem_bandwidth: 10 GB/s, memory: 500 MiB}]
network: {default: {bandwidth: 1 Gbit/s, delay: 0.1 ms}}
policy: layers
decisions: {interval: 100000}
time: {mode: virtual}
"""
RUNS = 3  # of each
TOKENS = 40  # of each sequence
SKIPPED = 4  # rounds of tokens, with the prompts
LIMITS = {2: 0.75, 4: 0.6}  # by sequences
PROCESSOR_LIMIT = 1.1


class OneByOne(VirtualTime):
    """Time of devices that run one step after the other."""

    def __init__(self, *given: Any, one_by_one: bool) -> None:
        del one_by_one
        super().__init__(*given, one_by_one=True)


class Rounds(NamedTuple):
    """Times that rounds of tokens have taken by the clock, and the processor time of all processes for a token."""

    wall_s: NDArray[np.float64]
    processor_s: float


def measure(sequences: int, settings: Sequence[str] = ()) -> Rounds:
    """Run so many sequences at once; `settings` change the scenario."""
    prompts = f"[{{tokens: 8, repeat: {sequences}}}]"
    workload = f"workload={{prompts: {prompts}, max_tokens: {TOKENS}, concurrency: {sequences}}}"
    meter, skipped = Meter(), SKIPPED * sequences
    with tempfile.TemporaryDirectory() as out, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        scenario = parse_scenario(SCENARIO, "overlap", (workload, *settings))
        made = runner.run(run_scenario(scenario, policy=None, out=Path(out), observer=meter))
        tokens = pq.read_table(made.directory / "tokens.parquet", columns=["wall_s"])
    ended_s = np.sort(tokens["wall_s"].to_numpy())
    processor_s = float(np.diff(meter.used_s)[skipped:].mean())
    return Rounds((ended_s[sequences:] - ended_s[:-sequences])[skipped:], processor_s)


def figures(settings: Sequence[str]) -> list[Figure]:
    found = []
    for sequences, limit in LIMITS.items():
        together, apart = [], []
        for _ in range(RUNS):
            together.append(measure(sequences, settings))
            with patch.object(backend, "VirtualTime", OneByOne):
                apart.append(measure(sequences, settings))
        round_ms, apart_ms = (
            1e3 * float(np.quantile(np.concatenate([each.wall_s for each in runs]), 0.25)) for runs in (together, apart)
        )
        what = f"{sequences} sequences: a round of tokens ({round_ms:.1f} ms), over one step after the other"
        found.append(Figure(f"{what} ({apart_ms:.1f} ms)", round_ms / apart_ms, limit, "x"))
        token_s, apart_s = (min(each.processor_s for each in runs) for runs in (together, apart))
        what = f"{sequences} sequences: processor time of all processes for a token ({1e3 * token_s:.1f} ms), over that"
        found.append(Figure(what, token_s / apart_s, PROCESSOR_LIMIT, "x"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the scenario")
    asked = parser.parse_args()
    raise SystemExit(report(figures(asked.set), asked.json))


if __name__ == "__main__":
    main()
