"""Migrations and decisions that go wrong: each ends in a clear error, or goes on as before and says why."""

import asyncio
import json
import os
import signal
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from support.builders import LLAMA
from support.device_pids import device_pids
from support.moving import Shuffle, assert_reference, cluster, make, reference_tokens
from support.watching import RecordedRun, Silent

from edgeemu.cli import app
from edgeemu.device.executor import Executor
from edgeemu.device.sequences import ArrivedBlock, SequenceState
from edgeemu.errors import RunError
from edgeemu.placement.blocks import EMBED, Kind, all_blocks, ffn, head
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.ledger import WORKSPACE, Ledger
from edgeemu.placement.memory import usages
from edgeemu.placement.migration import MigrationProtocol, needs
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Program
from edgeemu.placement.shipments import Shipment
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.report.record_files import read_table
from edgeemu.run import plan
from edgeemu.run.ask_policy import first_decision, next_decision
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.simulated import SimulatedBackend
from edgeemu_kernels.sampling import GREEDY
from edgeemu_kernels.weights.open_model import seeded_model

B = "gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s"
DEVICE_A = "{name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}"
DEVICE_B1 = f"{{name: b-1, memory: 8 MiB, {B}}}"
PAUSE, PRECOPY = "migration.mode=pause", "migration.mode=precopy"


def to_device(number: int) -> Callable[[ClusterView, Placement | None], Placement]:
    """A policy that wants the heads of layer 0 on one device."""

    def place(view: ClusterView, current: Placement | None) -> Placement:  # noqa: ARG001
        assert current is not None
        return current.moved([head(0, group) for group in range(4)], number)

    return place


async def on_processes(plan: Plan) -> RecordedRun:
    async with cluster(plan) as run:
        return await run(plan)


def interrupted(plan: Plan, act: Callable[[], None]) -> None:
    """Runs a plan in which something happens as soon as a first round of copying has begun."""

    class Devices(ProcessBackend):
        async def ship(self, migration: MigrationProtocol, shipments: list[Shipment], at_s: float) -> None:
            await super().ship(migration, shipments, at_s)
            act()

    uvloop.run(RecordedRun(plan, Devices(plan, Silent().phase)).run())


@pytest.mark.parametrize("device", ["a", "b-2"], ids=["sender", "receiver"])
@pytest.mark.parametrize("mode", [PAUSE, PRECOPY])
def test_a_device_that_is_killed_in_a_migration_ends_the_run_with_its_name(mode: str, device: str) -> None:
    plan = make(mode, "time.mode=realtime", "network.default.bandwidth=100 kbit/s", decide=to_device(2))
    number = [d.name for d in plan.cluster.devices].index(device)
    with pytest.raises(RunError, match=f"device {device} was killed by SIGKILL"):
        interrupted(plan, lambda: os.kill(device_pids()[number], signal.SIGKILL))
    assert device_pids() == []


@pytest.mark.parametrize("mode", [PAUSE, PRECOPY])
def test_a_run_that_is_cancelled_in_a_migration_leaves_nothing(mode: str) -> None:
    def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    plan = make(mode, "time.mode=realtime", "network.default.bandwidth=100 kbit/s", decide=to_device(2))
    with pytest.raises(asyncio.CancelledError):
        interrupted(plan, cancel)
    assert device_pids() == []


def test_a_copy_under_way_when_a_sequence_ends_is_given_up_and_the_next_one_goes_well() -> None:
    """Also on devices that are then given another plan: an epoch whose parcels are dropped is not used again."""
    slow = make(PRECOPY, "decisions.interval=7", "migration.chunk=500 B", decide=to_device(2))
    quick = replace(slow, decide=to_device(1))
    expected = reference_tokens(slow)

    async def main() -> None:
        async with cluster(slow) as run:
            given_up = await run(slow)
            assert {row.outcome for row in given_up.migrations} == {"aborted: the sequence ended"}
            assert_reference(given_up, slow, expected)
            paused = replace(quick, rules=replace(quick.rules, precopy=False))
            committed = await run(paused)
            assert {row.outcome for row in committed.migrations} == {"committed"}
            assert_reference(committed, paused, expected)

    uvloop.run(main())


def test_devices_that_send_each_other_more_than_their_queues_hold_do_not_block() -> None:
    """Without pacing all chunks are due at once: two feed-forward blocks change places, byte by byte."""

    def swap(view: ClusterView, current: Placement | None) -> Placement:  # noqa: ARG001
        assert current is not None
        return Placement({**current.owner, ffn(0): current.owner[ffn(1)], ffn(1): current.owner[ffn(0)]})

    plan = make("migration.chunk=1 B", "decisions.interval=7", "workload.prompts=[{tokens: 3}]", decide=swap)
    owner = {**plan.placement.owner, ffn(0): 0, ffn(1): 1}
    plan = replace(plan, placement=Placement(owner))

    async def main() -> None:
        async with cluster(plan) as run, asyncio.timeout(60):
            swapped = await run(plan)
            assert {row.outcome for row in swapped.migrations} == {"committed"}
            assert_reference(swapped, plan, reference_tokens(plan))

    uvloop.run(main())


@pytest.mark.parametrize("time", ["virtual", "realtime"])
@pytest.mark.parametrize("interval", [1, 3])
def test_routes_that_no_report_can_name_are_forgotten(time: str, interval: int) -> None:
    """Only programs of steps in flight are kept, however often they change."""
    kept = []
    programs: list[weakref.ref[Program]] = []

    class Devices(ProcessBackend):
        async def commit(self, migration: MigrationProtocol, program: Program) -> None:
            await super().commit(migration, program)
            programs.append(weakref.ref(program))
            kept.append(sum(known() is not None for known in programs))

    changes = (f"time.mode={time}", f"decisions.interval={interval}", "workload.prompts=[{tokens: 4}]")
    plan = make(*changes, "workload.max_tokens=20", decide=Shuffle(1, 0.3))
    uvloop.run(RecordedRun(plan, Devices(plan, Silent().phase)).run())
    assert len(kept) > 4
    assert max(kept) <= 3


@pytest.mark.parametrize("time", ["virtual", "realtime"])
def test_what_goes_on_growing_during_a_copy_has_room_or_the_copy_does_not_begin(time: str) -> None:
    """The link is so slow that rows are written all the while; to the byte: one less, and the receiver refuses."""
    prompt, slow = "workload.prompts=[{tokens: 7}]", "network.default.bandwidth=400 kbit/s"
    changes = (PRECOPY, prompt, slow, "decisions.interval=2", "workload.max_tokens=16", f"time.mode={time}")
    old = make(*changes, decide=to_device(2)).placement
    new = Placement({block: {0: 0, 1: 2, 2: 1}[device] for block, device in old.owner.items()})
    roomy = make(*changes, decide=lambda *_: new)
    _, need = needs(MigrationProtocol(9, old, new), roomy.usages(old), 7 + 1, 7 + 16, roomy.costs)
    assert need.growth_bytes > 0
    for spare_bytes, outcome in ((0, "committed"), (-1, "aborted: b-2 is out of memory: incoming needs")):
        room = roomy.pages[2].total_bytes + need.reserve_bytes + spare_bytes
        devices = f"devices=[{DEVICE_A}, {DEVICE_B1}, {{name: b-2, memory: {room} B, {B}}}]"
        plan = make(*changes, devices, decide=lambda *_: new)
        assert plan.placement == roomy.placement
        real = uvloop.run(on_processes(plan))
        assert_reference(real, plan, reference_tokens(plan))
        for made in (real, simulated(plan)):
            assert made.migrations[0].outcome.startswith(outcome)
            assert made.migrator.placement == (old if spare_bytes < 0 else new)
            first = made.migrations[0]
            during = [token for token in made.tokens if first.began_s < token.emulated_s < first.ended_s]
            assert (len(during) > 2) == (spare_bytes == 0)
        assert real.migrations[0].outcome == made.migrations[0].outcome


def test_the_workspace_of_what_has_come_is_charged() -> None:
    """And of what has left is not: after an exchange the ledger's page is that of a device which began like this."""
    blocks = list(all_blocks(LLAMA))
    old = Placement({block: 0 if block.kind is Kind.LM_HEAD else 1 for block in blocks})
    new = Placement({block: 0 if block.kind is Kind.FFN else 1 for block in blocks})
    pages = []
    weights = seeded_model(LLAMA, 1).open_source()
    donor = Executor(weights, Ledger("b", 1 << 30))
    donor.load(compile_routes(old, LLAMA).on(1))
    for begins in (old, new):
        compute = Executor(weights, Ledger("a", 1 << 30))
        compute.load(compile_routes(begins, LLAMA).on(0))
        compute.open(0, 5, 9, SequenceState(GREEDY, keep_logits=False))
        if begins is old:
            coming = [block for block in blocks if block.kind is Kind.FFN]
            arriving = {block: ArrivedBlock(donor.export(block, -1, 0, 0, with_weights=True)) for block in coming}
            compute.exchange(compile_routes(new, LLAMA).on(0), old.on(0), arriving)
        pages.append(compute.ledger.page())
    assert pages[0] == pages[1]
    planned = usages(new, compute.costs, 2, 5, 9)[0].page()
    assert pages[0][WORKSPACE] == planned.workspace_bytes


# What policies may do


def simulated(plan: Plan) -> RecordedRun:
    controller = RecordedRun(plan, SimulatedBackend(plan))
    asyncio.run(controller.run())
    return controller


def test_a_policy_may_write_into_what_it_is_shown_and_count_with_numpy() -> None:
    def rotate(view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        assert isinstance(current.owner, dict)
        current.owner[EMBED] = np.int64((current.owner[EMBED] + 1) % len(view.devices))
        return current

    plan = make(decide=rotate)
    before = dict(plan.placement.owner)
    made = next_decision(rotate, plan.view, plan.placement, 1.0)
    assert plan.placement.owner == before
    assert made.placement.owner == {**before, EMBED: (before[EMBED] + 1) % 3}
    assert type(made.placement.owner[EMBED]) is int


class Refuses:
    """Something that cannot be looked at."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("cannot be compared")

    __hash__ = None  # type: ignore[assignment]  # as of what defines __eq__


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (np.zeros(3), "the answer is a ndarray, not a Placement"),
        (Refuses(), "the answer is a Refuses, not a Placement"),
        (Placement(None), "the placement's owner is a NoneType"),  # type: ignore[arg-type]
        (Placement({"embed": 0}), "names 'embed', which is not a Block"),  # type: ignore[dict-item]
        (Placement({EMBED: 0.5}), "embed is on 0.5, which is not a device's number"),  # type: ignore[dict-item]
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_nonsense_of_any_kind_is_a_reason_and_not_a_crash(answer: Any, reason: str) -> None:
    def policy(view: ClusterView, current: Placement | None) -> Placement:  # noqa: ARG001
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[no-any-return]

    plan = make(decide=policy)
    decision = next_decision(policy, plan.view, plan.placement, 1.0)
    assert decision.placement is plan.placement
    assert reason in decision.problem
    with pytest.raises(RunError, match=r"first placement"):
        first_decision(policy, plan.view, 1.0)


def test_a_policy_that_catches_everything_is_not_waited_for_either() -> None:
    def stubborn(view: ClusterView, current: Placement | None) -> Placement:  # noqa: ARG001
        while True:
            with suppress(Exception):
                signal.pause()

    plan = make(decide=stubborn)
    assert "did not answer within 0.05 s" in next_decision(stubborn, plan.view, plan.placement, 0.05).problem


class Late:
    """Does not answer at these times that it is asked, and changes nothing at the others."""

    def __init__(self, at: set[int]) -> None:
        self.asked = 0
        self._at = at

    def __call__(self, view: ClusterView, current: Placement | None) -> Placement:  # noqa: ARG002
        self.asked += 1
        while self.asked in self._at:
            signal.pause()
        assert current is not None
        return current


@pytest.mark.parametrize(
    ("late", "asked", "step"),
    [({1, 2, 4, 5, 7, 8, 9, 10}, 9, "sequence 1, step 2"), ({2, 3, 4, 5}, 4, "sequence 0, step 4")],
)
def test_a_policy_that_is_late_three_times_in_a_row_is_not_asked_again(late: set[int], asked: int, step: str) -> None:
    policy = Late(late)
    plan = make(decide=policy)
    made = simulated(replace(plan, rules=replace(plan.rules, decision_limit_s=0.02)))
    assert policy.asked == asked
    assert len(made.tokens) == 16
    *problems, last = made.problems
    assert all(problem.endswith("the policy did not answer within 0.02 s") for problem in problems)
    assert len(problems) == len({n for n in late if n <= asked})
    assert last == made.given_up == f"round-robin was not asked again after {step}: late 3 times in a row"


def test_a_policy_that_only_fails_is_asked_to_the_end() -> None:
    def fails(view: ClusterView, current: Placement | None) -> Placement:  # noqa: ARG001
        raise ZeroDivisionError

    made = simulated(make(decide=fails))
    assert len(made.problems) == len(made.decision_s) == 14
    assert made.given_up == ""


def test_a_refusal_is_a_problem_that_is_told() -> None:
    def exchange(view: ClusterView, current: Placement | None) -> Placement:  # noqa: ARG001
        assert current is not None
        return Placement({block: {0: 0, 1: 2, 2: 1}[device] for block, device in current.owner.items()})

    roomy = make(decide=exchange)
    need_bytes = max(page.total_bytes for page in roomy.pages[1:])
    made = simulated(make(f"devices[1].memory={need_bytes + 1000} B", decide=exchange))
    assert "sequence 0, step 1: b-1 is out of memory: incoming needs" in made.problems[0]


def test_a_simulated_peak_is_that_of_all_placements() -> None:
    made = simulated(make(decide=to_device(2)))
    plan, peaks = made.plan, list(made.devices.measured.peak_bytes.values())
    for placement in (plan.placement, made.migrator.placement):
        for peak_bytes, usage in zip(peaks, plan.usages(placement), strict=True):
            assert peak_bytes >= usage.page().total_bytes
    assert peaks[2] > plan.pages[2].total_bytes


# Through the command line

SCENARIO = """
name: faults
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_ff: 64, vocab_size: 99, max_context: 64}
devices:
  - {name: pi, count: 3, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}
network: {default: {bandwidth: 100 Mbit/s, delay: 2 ms}}
policy: round-robin
workload: {prompts: [{tokens: 8}, {tokens: 4}], max_tokens: 5}
time: {mode: virtual}
decisions: {time: 0 ms}
"""
POLICIES = """
import time
import numpy as np
from edgeemu.placement.placement import Placement
from edgeemu.policies import round_robin

def first(view, current):
    return round_robin.place(view, None)

def array(view, current):
    return np.zeros(3) if current else first(view, current)

def raises(view, current):
    if current:
        raise ZeroDivisionError("as always")
    return first(view, current)

def rotates(view, current):
    if current is None:
        return first(view, current)
    return Placement({block: np.int64((at + 1) % 3) for block, at in current.owner.items()})

def sleeps(view, current):
    return first(view, current) if current is None else time.sleep(60)

def at_once(view, current):
    raise RuntimeError("not today")
"""
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """A command on the scenario, in a directory with the policies."""
    monkeypatch.chdir(tmp_path)
    Path("faults.yaml").write_text(SCENARIO)
    Path("mine.py").write_text(POLICIES)

    def call(command: str, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            app.main([command, "faults.yaml", *arguments])
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("command", ["run", "simulate"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [("array", "the answer is a ndarray, not a Placement"), ("raises", "ZeroDivisionError: as always")],
)
def test_why_a_placement_was_kept_is_printed(call: Call, command: str, name: str, reason: str) -> None:
    status, out, _ = call(command, "--policy", f"mine.py:{name}")
    assert status == 0
    assert "8 decisions: 0 changes of placement\n" in out
    assert f"placement kept: sequence 0, step 1: {reason} (and 7 more problems; see summary.json)\n" in out


@pytest.mark.parametrize("command", ["run", "simulate"])
def test_that_a_policy_was_given_up_is_printed(call: Call, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "DECISION_LIMIT_S", 0.05)
    status, out, _ = call(command, "--policy", "mine.py:sleeps")
    assert status == 0
    assert "3 decisions: 0 changes of placement\n" in out
    told = "mine.py:sleeps was not asked again after sequence 0, step 3: late 3 times in a row"
    assert f"policy no longer asked: {told}\n" in out


@pytest.mark.parametrize(
    ("policy", "status", "message"),
    [
        ("mine.py:at_once", 4, "the policy gave no first placement: RuntimeError: not today"),
        ("mine.py:rotate", 2, '--policy: mine.py has no "rotate" (did you mean "rotates"?)'),
        ("yours.py", 2, "--policy: there is no policy file yours.py"),
    ],
)
@pytest.mark.parametrize("command", ["run", "simulate"])
def test_a_policy_that_cannot_begin_is_one_message(
    call: Call, command: str, policy: str, status: int, message: str
) -> None:
    left, out, told = call(command, "--policy", policy)
    assert (left, out) == (status, "")
    assert message in told
    assert not list(Path("runs").iterdir())


def test_a_simulation_leaves_what_a_run_leaves(call: Call) -> None:
    documents = []
    for command in ("run", "simulate"):
        status, out, _ = call(command, "--policy", "mine.py:rotates", "--json")
        assert status == 0
        documents.append(json.loads(out))
    run, simulation = documents
    assert simulation.keys() == run.keys()
    assert simulation["migrations"] == pytest.approx(run["migrations"])
    assert simulation["tpot_ms"] == pytest.approx(run["tpot_ms"])
    tables = [read_table(Path(document["directory"]), "migrations").to_pylist() for document in documents]
    assert len(tables[0]) == run["migrations"]["count"] > 0
    for mine, other in zip(*tables, strict=True):
        assert {**mine, **dict.fromkeys(("began_s", "ended_s", "pause_s"))} == {
            **other,
            **dict.fromkeys(("began_s", "ended_s", "pause_s")),
        }
        assert mine["pause_s"] == pytest.approx(other["pause_s"])
    assert {row["outcome"] for row in tables[0]} == {"committed"}


@pytest.mark.parametrize("tokens", [1, 4])
def test_a_simulation_shows_a_line_for_each_sequence(call: Call, tokens: int) -> None:
    status, out, _ = call("simulate", "--set", f"workload.max_tokens={tokens}", "--policy", "mine.py:rotates")
    assert status == 0
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["prompt 1", "prompt 2"]
    assert ("each on average" in lines[0]) == (tokens > 1)
    assert "> (" not in out
    assert f"{2 * tokens} tokens" in out
