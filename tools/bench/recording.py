"""Time that records and a trace cost a run on 25 devices: a simulation, and a run in real time.

    python tools/bench/recording.py            # a table, and status 1 if a limit is missed; two or three minutes
    python tools/bench/recording.py --json

Cost is the processor time of writing rows as streams and of converting them to Parquet at the end, and of the trace
that `edgeemu report --trace` writes. It is compared with the time of the run: of a simulation its processor time from
the plan to the last record, of a run in real time the wall time of its tokens. The least of three counts. Beside it is
what the whole of a simulation, or the controller of a run in real time, takes with a sink that drops its rows.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # OpenBLAS looks when NumPy is imported

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from measure import SCENARIOS, Figure, report

from edgeemu.links.netns.capabilities import probe_host
from edgeemu.report.record_files import RecordWriter
from edgeemu.report.rows import TableName
from edgeemu.report.run_directory import RunDirectory
from edgeemu.report.trace.trace import write_trace
from edgeemu.run.backend import Backend
from edgeemu.run.buffered_records import buffered
from edgeemu.run.choose_links import choose_links
from edgeemu.run.controller import Controller
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.planned import planned
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.run_scenario import run_scenario
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import load_scenario

LAN_25 = SCENARIOS / "lan-25.yaml"
ON_ALL_25 = ("time.dilation=4", "decisions={interval: 100000}", "workload.max_tokens=40")
LIMIT = 3.0  # per cent
RUNS = 3


class Cost(NamedTuple):
    """Seconds: of the processor in the sink and in the whole controller, and of the tokens by the clock."""

    recorded_s: float
    used_s: float
    tokens_s: float


class MeteredWriter(RecordWriter):
    """A writer that adds up its processor time."""

    used_s = 0.0

    def append(self, table: TableName, rows: Sequence[tuple[Any, ...]]) -> None:
        began_s = time.process_time()
        super().append(table, rows)
        self.used_s += time.process_time() - began_s

    def close(self) -> None:
        began_s = time.process_time()
        super().close()
        self.used_s += time.process_time() - began_s


class Tokens(Silent):
    """Notes when the first and the last token came, by the clock."""

    first_s = last_s = 0.0

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        del index, step, text, latency_s
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s


async def recorded_run(plan: Plan, devices: Backend) -> Cost:
    """Run a plan with records."""
    tokens, began_s = Tokens(), time.process_time()
    with tempfile.TemporaryDirectory() as out:
        writer = MeteredWriter(Path(out))
        async with buffered(writer) as sink:
            await Controller(plan, devices, tokens, sink).run()
    return Cost(writer.used_s, time.process_time() - began_s, tokens.last_s - tokens.first_s)


async def silent_run(plan: Plan, devices: Backend) -> Cost:
    """Run a plan, and drop the rows."""
    tokens, began_s = Tokens(), time.process_time()
    await Controller(plan, devices, tokens, tokens).run()
    return Cost(0.0, time.process_time() - began_s, tokens.last_s - tokens.first_s)


def simulation() -> Figure:
    """Cost of the records of `edgeemu simulate scenarios/lan-25.yaml`."""
    scenario, found = load_scenario(LAN_25), []
    for _ in range(RUNS):
        for run in (recorded_run, silent_run):
            began_s = time.process_time()
            with planned(scenario, None, trust=False, on_devices=False) as plan:
                cost = uvloop.run(run(plan, SimulatedBackend(plan)))
            found.append(cost._replace(used_s=time.process_time() - began_s))
    recorded, silent = (min(found[turn::2], key=lambda cost: cost.used_s) for turn in range(2))
    cost_s = min(cost.recorded_s for cost in found[::2])
    what = f"simulation of lan-25: {cost_s:.3f} s of {recorded.used_s:.2f} s; {silent.used_s:.2f} s with rows dropped"
    return Figure(what, 100 * cost_s / recorded.used_s, LIMIT, "%")


def real_time() -> list[Figure]:
    """Cost of the records of a run in real time on 25 devices, all of which compute, and of its trace."""
    found = []
    with planned(load_scenario(LAN_25, ON_ALL_25), "round-robin", trust=False, on_devices=True) as plan:
        for _ in range(RUNS):
            for run in (recorded_run, silent_run):
                links = choose_links(plan.scenario, plan.cluster, simulate=False, probe=probe_host)
                devices = ProcessBackend(plan, Silent().phase, lambda _: None, links=links)
                found.append(uvloop.run(run(plan, devices)))
    recorded, silent = found[::2], found[1::2]
    cost_s, trace_s = min(cost.recorded_s for cost in recorded), traced_s()
    wall_s = min(cost.tokens_s for cost in recorded)
    used_s, without_s = (min(cost.used_s for cost in costs) for costs in (recorded, silent))
    whole = f"of {wall_s:.1f} s by the clock; controller {used_s:.2f} s, {without_s:.2f} s with rows dropped"
    return [
        Figure(f"lan-25, round-robin, real time: {cost_s:.3f} s {whole}", 100 * cost_s / wall_s, LIMIT, "%"),
        Figure(f"the same and its trace: {trace_s:.3f} s more", 100 * (cost_s + trace_s) / wall_s, LIMIT, "%"),
    ]


def traced_s() -> float:
    """Processor time of the trace of such a run, from records of its simulation."""
    found = []
    with tempfile.TemporaryDirectory() as out:
        scenario, observer = load_scenario(LAN_25, ON_ALL_25), Silent()
        running = run_scenario(scenario, policy="round-robin", out=Path(out), observer=observer, simulate=True)
        run = RunDirectory(uvloop.run(running).directory)
        for _ in range(RUNS):
            began_s = time.process_time()
            write_trace(Path(out) / "trace.json.gz", run.records, run.read_facts())
            found.append(time.process_time() - began_s)
    return min(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="Print figures as JSON.")
    return report([simulation(), *real_time()], parser.parse_args().json)


if __name__ == "__main__":
    sys.exit(main())
