"""Processor time that an operation costs in device processes beside its kernel, and how many a second keep real time.

    python tools/bench/operation_cost.py            # a table, and status 1 if a limit is missed; a minute or two
    python tools/bench/operation_cost.py --json

- A chain: the layers of SmolLM2 one after the other on five devices, in virtual time.
- Scattered heads: `lan-25.yaml` with `round-robin`, where nearly every operation sends its result to other devices.
- Real time: sequences of a small model that keep four devices busy, with more than 5,000 operations a second.

Each is the processor time of all processes of a run, the controller's with its records included, over decoding steps,
without the thread time of the kernels in them, divided by the number of operations. For scattered heads all of it is
also compared with decoding steps of the undivided model in this process.

Other programs of the host evict what a device needs from the caches, for moments or for minutes. So runs take turns,
each step in virtual time is a figure of its own, and the lower quartile of all steps counts: the table has the upper
one, too. The certificate of the run in real time depends on the host likewise: the best of three runs counts.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # OpenBLAS looks when NumPy is imported

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import uvloop
from growth import family
from measure import SCENARIOS, Figure, report
from numpy.typing import NDArray

from edgeemu.report.certificate import VERDICTS
from edgeemu.run.observer import Silent
from edgeemu.run.planned import planned
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import load_scenario, parse_scenario
from edgeemu.scenario.scenario import Scenario
from edgeemu_kernels.decoder import Decoder
from edgeemu_kernels.weights.sources import open_source

SKIPPED = 6  # first tokens that are not judged: prompts, and what is made once
CHAIN_LIMIT_US, SCATTERED_LIMIT_US, PACED_LIMIT_US, UNDIVIDED_LIMIT = 70.0, 180.0, 120.0, 3.2
VIRTUAL = (
    "time.mode=virtual",
    "decisions={interval: 100000}",
    "workload={prompts: [Why is the sky blue?], max_tokens: 40}",
)
RATE = """
name: rate
model:
  shape: {n_layers: 24, d_model: 64, n_heads: 4, n_kv_heads: 2, head_dim: 16, d_ff: 128, vocab_size: 256,
    max_context: 1024}
devices: [{name: device, count: 4, gflops: 20 GFLOPS, mem_bandwidth: 10 GB/s, overhead: 0.7 ms, memory: 64 MiB}]
network: {default: {bandwidth: 1 Gbit/s, delay: 0.1 ms}}
decisions: {interval: 100000}
time: {mode: realtime, dilation: 1}
workload: {prompts: [{tokens: 4, repeat: 6}], max_tokens: 110, concurrency: 6}
"""
CALM = 0.1  # share of the processors that other programs may take where the verdict has to be PASS, not WARN
RUNS = 5  # of each in virtual time
TRIES = 3  # at most, in real time


class Cost(NamedTuple):
    """Measured stretch of a run; times are of the processor."""

    operations: float  # of a decoding step
    kernels_s: float  # the same, in the mean
    all_s: NDArray[np.float64]  # by token
    beside_us: NDArray[np.float64]  # microseconds of an operation beside its kernel, by token
    summary: dict[str, Any]

    @property
    def mean_us(self) -> float:
        """Microseconds of an operation beside its kernel, of all tokens."""
        return 1e6 * float(self.all_s.mean() - self.kernels_s) / self.operations


class Meter(Silent):
    """Reads the processor time of all processes of this run when tokens come."""

    def __init__(self) -> None:
        self.used_s: list[float] = []  # by token
        self._clocks: list[int] = []

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        del index, step, text, latency_s
        if len(self.used_s) == 1:  # all of its processes are there
            self._clocks = [_clock_of(int(process.name)) for _, process in family(os.getpid())]
        self.used_s.append(sum(map(time.clock_gettime, self._clocks)))


def _clock_of(pid: int) -> int:
    """Clock of a process's time on processors, which clock_getcpuclockid(3) gives."""
    return (~pid << 3) | 2


def measure(scenario: Scenario, policy: str) -> Cost:
    """Run a scenario, and read what its decoding steps cost."""
    meter = Meter()
    with tempfile.TemporaryDirectory() as out, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(run_scenario(scenario, policy=policy, out=Path(out), observer=meter))
        rows = pq.read_table(result.directory / "ops.parquet", columns=["step", "cpu_s"])
    steps = rows.column("step").to_numpy()
    kernels_s = np.bincount(steps, rows.column("cpu_s").to_numpy())[1:]  # by step
    decoded = len(meter.used_s) - len(result.summary["sequences"])  # steps, which have the same operations
    operations = float((steps > 0).sum()) / decoded
    all_s = np.diff(meter.used_s)
    beside_us = 1e6 * (all_s - kernels_s) / operations if len(all_s) == decoded else np.empty(0)  # steps by themselves
    return Cost(operations, kernels_s.sum() / decoded, all_s[SKIPPED:], beside_us[SKIPPED:], result.summary)


def undivided_s(tokens: int) -> list[float]:
    """Processor time of decoding steps of the undivided model, on one thread."""
    with planned(
        load_scenario(SCENARIOS / "lan-25.yaml", VIRTUAL), "round-robin", trust=False, on_devices=False
    ) as plan:
        decoder = Decoder(open_source(plan.model.spec))
        ids = list(plan.requests[0].ids)
    token, took_s = int(decoder.prefill(ids).argmax()), []
    for _ in range(tokens):
        began_s = time.process_time()
        token = int(decoder.step(token).argmax())
        took_s.append(time.process_time() - began_s)
    return took_s


def quartiles(values: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Lower and upper quartile of what several runs gave."""
    lower, upper = np.quantile(np.concatenate(values), (0.25, 0.75))
    return float(lower), float(upper)


def real_time() -> tuple[Cost, float]:
    """Run several sequences in real time, again if other programs disturb it; return operations a second, too."""
    for _ in range(TRIES):
        cost = measure(parse_scenario(RATE, "rate"), "layers")
        if cost.summary["certificate"]["verdict"] == "PASS":
            break
    return cost, cost.summary["throughput_tok_s"] * cost.operations


def figures() -> list[Figure]:
    chains, scattereds, alone_s = [], [], []
    for _ in range(RUNS):
        chains.append(measure(load_scenario(SCENARIOS / "quickstart.yaml", VIRTUAL), "layers"))
        scattereds.append(measure(load_scenario(SCENARIOS / "lan-25.yaml", VIRTUAL), "round-robin"))
        alone_s.append(np.array(undivided_s(len(chains[-1].all_s))))
    chain_us, chain_most_us = quartiles([cost.beside_us for cost in chains])
    scattered_us, scattered_most_us = quartiles([cost.beside_us for cost in scattereds])
    token_ms, _ = quartiles([1e3 * cost.all_s for cost in scattereds])
    alone_ms, _ = quartiles([1e3 * each for each in alone_s])
    paced, rate = real_time()
    certificate = paced.summary["certificate"]
    verdict, others = certificate["verdict"], certificate["host"]["others"]
    return [
        Figure(
            f"operation in a chain, beside its kernel; upper quartile {chain_most_us:.0f} us",
            chain_us,
            CHAIN_LIMIT_US,
            "us",
        ),
        Figure(
            f"operation with scattered heads, beside its kernel; upper quartile {scattered_most_us:.0f} us",
            scattered_us,
            SCATTERED_LIMIT_US,
            "us",
        ),
        Figure(
            f"token of lan-25, round-robin ({token_ms:.1f} ms), over a step of the undivided model ({alone_ms:.1f} ms)",
            token_ms / alone_ms,
            UNDIVIDED_LIMIT,
            "x",
        ),
        Figure("operation in real time, beside its kernel", paced.mean_us, PACED_LIMIT_US, "us"),
        Figure(f"missing to 5,000 operations a second ({rate:,.0f})", max(0.0, 5000 - rate), 0, "/s"),
        Figure(
            f"verdict of that run ({verdict}), below PASS; other programs took {others:.0%} of the processors",
            VERDICTS.index(verdict),
            int(others > CALM),
            "",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    raise SystemExit(report(figures(), parser.parse_args().json))


if __name__ == "__main__":
    main()
