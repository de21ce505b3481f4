"""Steps of several sequences are under way at the same time on devices that do not wait, and no figure tells."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from support.failing import failing
from support.memory_devices import use_memory
from support.moving import Shuffle
from support.one_by_one import OneByOne
from support.several import SAMPLED, make, reference_tokens, tokens_of
from support.watching import RecordedRun

from edgeemu.cluster.faults import Fault, FaultEvent, FaultKind
from edgeemu.device.dataflow import StepKey
from edgeemu.device.instructions import OperationRan
from edgeemu.device.step_runner import StepRunner
from edgeemu.report.rows import GIVEN_UP
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes import backend
from edgeemu.run.processes.backend import ProcessBackend

THREE = "workload.concurrency=3"
OFTEN = "decisions.interval=1"
TWO = "devices=[{name: a, count: 2, gflops: 1 GFLOPS, mem_bandwidth: 100 MB/s, memory: 8 MiB}]"
HOST_TIMES = {"ops": {"cpu_s": 0.0}, "tokens": {"wall_s": 0.0, "wall_latency_s": 0.0}, "decisions": {"took_s": 0.0}}
CRASH = FaultEvent(Fault(FaultKind.CRASH, (1,)), at_s=0.05)

Rows = dict[str, list[str]]


def moving(*changes: str) -> Plan:
    return replace(make(THREE, OFTEN, *changes), decide=Shuffle(4, 0.3))


def crashing(caches: str) -> Plan:
    return failing(make(THREE, f"recovery={{caches: {caches}, heartbeat: {{interval: 5 ms, misses: 2}}}}"), CRASH)


CASES: dict[str, Callable[[], Plan]] = {
    "layers": lambda: make(THREE, "policy=layers", SAMPLED),
    "scattered": lambda: make("workload.concurrency=8"),
    "divided in a ring": lambda: make(THREE, "policy=galaxy"),
    "divided round a star": lambda: make(THREE, "policy=galaxy", "sharding.collectives=star"),
    "gathered": lambda: make(THREE, "policy=distributed-llama", TWO),
    "bubbles": lambda: make(THREE, "policy=layers", "workload.pipeline=bubbles"),
    "arrivals": lambda: make(THREE, "policy=layers", "workload.arrivals={poisson: {rate: 60 /s}}"),
    "migrations": moving,
    "migrations in the background": lambda: moving("migration.mode=precopy", "migration.chunk=1 kB"),
    "a crash": lambda: crashing("reprefill"),
    "a crash with replicas": lambda: crashing("replicate"),
}


def recorded(plan: Plan) -> tuple[RecordedRun, Rows]:
    """Run a plan; return also its rows by table, without times of the host, in an order of their own."""
    made = RecordedRun(plan, ProcessBackend(plan, Silent().phase))
    uvloop.run(made.run())
    tables: dict[str, list[Any]] = {**made.recorded.rows}
    rows = {table: sorted(repr(row._replace(**HOST_TIMES.get(table, {}))) for row in tables[table]) for table in tables}
    return made, {table: each for table, each in rows.items() if each}


def one_by_one(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """Rows of a run whose steps are run one after the other."""
    with monkeypatch.context() as patched:
        patched.setattr(backend, "VirtualTime", OneByOne)
        return recorded(plan)[1]


@pytest.mark.parametrize("case", CASES)
def test_records_are_those_of_one_step_after_the_other(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times, memory and its peaks, moves, faults: on device processes, and in any order that messages can have."""
    expected = one_by_one(CASES[case](), monkeypatch)
    made, rows = recorded(plan := CASES[case]())
    assert rows == expected
    assert tokens_of(made) == reference_tokens(plan)
    assert bool(made.migrations) == ("migrations" in case or "crash" in case)
    assert any(row.step == GIVEN_UP for row in made.ops) == ("crash" in case)
    for seed in range(3):
        use_memory(monkeypatch, seed)
        assert recorded(CASES[case]())[1] == expected


def test_peaks_are_the_fullest_of_the_records() -> None:
    plan = make(THREE, "policy=layers")
    made = RecordedRun(plan, devices := ProcessBackend(plan, Silent().phase))
    uvloop.run(made.run())
    peaks: dict[str, int] = {}
    for row in made.recorded.rows["devices"]:
        peaks[row.device] = max(peaks.get(row.device, 0), row.peak_bytes)
    assert devices.measured.peak_bytes == peaks


def under_way(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> int:
    """Steps that are under way at the same time on devices, at most: those that have run an operation, but not all."""
    left = {StepKey(n, step): 0 for n, request in enumerate(plan.requests) for step in range(request.max_tokens)}
    begun: set[StepKey] = set()
    counts: list[int] = []
    ran = StepRunner.ran

    def watched(self: StepRunner, event: OperationRan) -> float:
        running: Any = self._running
        key = running.ready.key
        left[key] += 1
        begun.add(key)
        if left[key] == sum(op.runs_in(key.step, 1) for op in plan.program.ops):
            begun.discard(key)
        counts.append(len(begun))
        return ran(self, event)

    with monkeypatch.context() as patched:
        patched.setattr(StepRunner, "ran", watched)
        use_memory(patched, 1)
        recorded(plan)
    return max(counts)


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_devices_have_as_many_steps_under_way_as_there_are_sequences(
    concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make(f"workload.concurrency={concurrency}", "policy=layers")
    assert under_way(plan, monkeypatch) == concurrency
    monkeypatch.setattr(backend, "VirtualTime", OneByOne)
    assert under_way(plan, monkeypatch) == 1


def test_devices_that_are_relative_to_the_host_run_one_step_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their kernels are measured, and give the timeline."""
    relative = "devices=[{name: a, count: 3, host_fraction: 0.3, memory: 8 MiB}]"
    monkeypatch.setattr(backend, "warm_up", _no_warm_up)
    assert under_way(make(THREE, "policy=layers", relative), monkeypatch) == 1


async def _no_warm_up(*_: object) -> list[object]:
    return []
