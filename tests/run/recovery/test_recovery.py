"""Simulated runs that lose devices: every token comes, what is lost is placed anew, and it costs what it must."""

import asyncio
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.facts import some_facts

from edgeemu.errors import InfeasibleError, RunError
from edgeemu.placement.placement import Placement
from edgeemu.report.critical.critical_path import TimePart, critical_paths
from edgeemu.report.facts import Heartbeats
from edgeemu.report.failures import failure_lines, failures_document, recovery_table
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.run.controller import Controller
from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario

TEXT = """
name: failing
seed: 3
model:
  shape:
    {n_layers: 4, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 200, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}
  - {name: b, count: 3, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB}
network:
  default: {bandwidth: 10 Mbit/s, delay: 1 ms}
policy: layers
workload:
  prompts: [{tokens: 7}, {tokens: 3}, {tokens: 5}]
  max_tokens: 12
decisions: {time: 0 ms}
migration: {flash_bandwidth: 100 MB/s}
recovery: {heartbeat: {interval: 0.1 s}}
"""
ALL = 36  # tokens
DEVICES = ("a", "b-1", "b-2", "b-3")


class Ran(NamedTuple):
    """A run that has ended: its records, the placement at its end, and what was told."""

    records: RowsInMemory
    placement: Placement
    told: list[str]

    @property
    def end_s(self) -> float:
        return max(row.emulated_s for row in self.records.rows["tokens"])


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def moved(self, line: str) -> None:
        self.lines.append(line)


def ran(*changes: str) -> Ran:
    plan = make_plan(parse_scenario(TEXT, "failing", changes))
    records, told = RowsInMemory(), Told()
    controller = Controller(plan, SimulatedBackend(plan), told, records)
    asyncio.run(controller.run())
    return Ran(records, controller.migrator.placement, told.lines)


def test_an_exit_costs_what_is_read_and_computed_again() -> None:
    calm, hit = ran(), ran("faults=[{at: 0.2 s, device: b-1, fault: crash}]")
    (row,) = hit.records.rows["recoveries"]
    assert (row.began_s, row.noticed_s, row.lost, row.outcome) == (0.2, 0.2, "b-1", "recovered")
    assert row.noticed_s <= row.decided_s < row.placed_s < row.restored_s
    assert DEVICES.index("b-1") not in hit.placement.devices()
    assert len(hit.records.rows["tokens"]) == ALL
    waited = [
        (token.sequence, token.step) for token in hit.records.rows["tokens"] if token.released_s == row.restored_s
    ]
    (decided,) = [each for each in hit.records.rows["decisions"] if each.event == "placed anew"]
    moved = hit.records.rows["migrations"]
    assert waited == [(decided.sequence, decided.step)]
    assert {(each.sequence, each.step) for each in moved} == set(waited)
    slowest = max(hit.records.rows["tokens"], key=lambda token: token.latency_s)
    assert slowest.released_s == row.restored_s
    assert hit.end_s > calm.end_s + (row.restored_s - row.began_s) / 2


def test_a_device_that_holds_nothing_costs_nothing() -> None:
    calm = ran("policy=single")
    idle = next(name for name in DEVICES if DEVICES.index(name) not in calm.placement.devices())
    hit = ran("policy=single", f"faults=[{{at: 0.05 s, device: {idle}, fault: crash}}]")
    assert hit.end_s == calm.end_s
    assert not hit.records.rows["recoveries"]
    assert [row.moment for row in hit.records.rows["faults"]] == ["begins", "noticed"]


def test_a_short_hang_costs_itself_and_a_long_one_is_noticed_by_heartbeat() -> None:
    calm = ran()
    short = ran("faults=[{at: 0.2 s, device: b-1, fault: hang, for: 0.05 s}]")
    assert not short.records.rows["recoveries"]
    assert calm.end_s <= short.end_s <= calm.end_s + 0.05 + 1e-9
    (row,) = ran("faults=[{at: 0.25 s, device: b-1, fault: hang}]").records.rows["recoveries"]
    assert row.noticed_s == pytest.approx(0.5)  # beats at 0.3, 0.4 and 0.5 s are missing


def test_a_device_joins_late_and_one_comes_back() -> None:
    joins = ran("faults=[{at: 20 ms, device: b-3, fault: join}]", "policy=lookahead")
    assert "b-3 has joined" in " ".join(joins.told)
    first = {row.device for row in joins.records.rows["placements"] if row.epoch == 0}
    assert "b-3" not in first
    back = ran("faults=[{at: 0.1 s, device: b-1, fault: reboot, for: 20 ms}]")
    assert [(row.kind, row.moment) for row in back.records.rows["faults"]] == [
        *(("reboot", moment) for moment in ("begins", "noticed", "over")),
        ("join", "begins"),
    ]


def test_without_recovery_a_lost_device_ends_the_run() -> None:
    with pytest.raises(RunError, match=r"b-1: crash at 0.2 s, and the scenario has no recovery"):
        ran("recovery=none", "faults=[{at: 0.2 s, device: b-1, fault: crash}]")


def test_survivors_without_room_end_the_run() -> None:
    faults = ", ".join(f"{{at: 0.2 s, device: {name}, fault: crash}}" for name in DEVICES[1:])
    with pytest.raises(InfeasibleError):
        ran(f"faults=[{faults}]", "devices[0].memory=100 KiB")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_fails_every_token_comes(data: st.DataObject) -> None:
    """Up to three faults at any time, also during the recovery from another, under policies of all kinds."""
    kinds = ["crash", "reboot, for: 0.3 s", "hang", "hang, for: 0.15 s", "leave", "out of memory", "hang, for: 0.4 s"]
    end_s = 1.0
    chosen = data.draw(st.lists(st.sampled_from(DEVICES), min_size=1, max_size=3, unique=True))
    faults = [
        f"{{at: {data.draw(st.integers(1, int(1000 * end_s)))} ms, device: {device}, "
        f"fault: {data.draw(st.sampled_from(kinds))}}}"
        for device in chosen
    ]
    policy = data.draw(st.sampled_from(["layers", "lookahead", "resource-aware", "galaxy", "round-robin", "mdi"]))
    changes = [f"faults=[{', '.join(faults)}]", f"policy={policy}"]
    changes += data.draw(st.sampled_from([[], ["workload.concurrency=3"], ["migration.mode=precopy"]]))
    run = ran(*changes)
    records = run.records.rows
    assert len(records["tokens"]) == ALL
    for row in records["recoveries"]:
        assert row.began_s <= row.noticed_s <= row.restored_s
        assert row.outcome == "recovered"
    by_sequence: dict[int, list[float]] = {}
    for token in sorted(records["tokens"], key=lambda token: (token.sequence, token.step)):
        by_sequence.setdefault(token.sequence, []).append(token.emulated_s)
    assert all(instants == sorted(instants) for instants in by_sequence.values())
    paths = critical_paths(run.records)
    assert TimePart.UNKNOWN not in paths.part
    sums = [0.0] * ALL
    for token, spent_s in zip(paths.token.tolist(), paths.spent_s.tolist(), strict=True):
        sums[token] += spent_s
    assert sums == pytest.approx(paths.latency_s.tolist(), abs=1e-9)


def test_what_faults_cost_is_summed_up() -> None:
    run = ran("faults=[{at: 0.2 s, device: b-1, fault: reboot, for: 20 ms}]")
    facts = some_facts(heartbeat=Heartbeats(0.1, 64))
    document = failures_document(run.records, facts, run.end_s)
    assert document is not None
    (row,) = run.records.rows["recoveries"]
    assert document["faults"] == {"reboot": 1}
    assert document["joined"] == 1
    assert document["down_ms"]["mean"] == pytest.approx(1000 * (row.restored_s - row.began_s))
    parts = sum(document[name]["mean"] for name in ("notice_ms", "decide_ms", "place_ms", "fill_ms"))
    assert parts == pytest.approx(document["down_ms"]["mean"])
    assert document["availability"] == pytest.approx(1 - (row.restored_s - row.began_s) / run.end_s)
    assert "faults: 1 reboot; 1 device joined" in list(failure_lines(document))
    beats = int(run.end_s / 0.1) * len(facts.devices)
    assert document["heartbeat"] == {"beats": beats, "bytes": 128 * beats}
    assert failures_document(ran().records, some_facts(), 1.0) is None
    unharmed = failures_document(ran().records, facts, 1.0)
    assert not list(failure_lines(unharmed))
    (shown,) = recovery_table(run.records).rows
    assert (shown[0], shown[-1]) == ("b-1", "recovered")
