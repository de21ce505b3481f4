"""Devices are killed and stopped in the middle of everything: each text is what it would have been, nothing is left."""

import signal
from dataclasses import replace

import pytest
import uvloop
from support.chaos import assert_counted_alike, assert_sums_are_true
from support.crowded import crowded
from support.device_pids import device_pids
from support.failing import REPREFILL, failing, for_a_while, heads_of_first_layer_to, run_struck, sent
from support.several import make, reference_tokens, tokens_of
from support.watching import RecordedRun

from edgeemu.cluster.faults import Fault, FaultEvent, FaultKind
from edgeemu.report.rows import GIVEN_UP, NO_STEP
from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario

FOUR = "workload.prompts=[{tokens: 7}, {tokens: 3}, {tokens: 5}, {tokens: 2}]"
PHASES = ["prepare", "ship", "copying", "arrived", "commit", "committed"]
LATE_S = 30.0  # when runs that are not disturbed have ended long since
ROLES = {"sender": "a", "receiver": "b-1", "bystander": "b-2"}


def plan_of(*changes: str) -> Plan:
    return make(FOUR, "workload.max_tokens=6", REPREFILL, *changes)


def moving(*changes: str) -> Plan:
    plan = plan_of("decisions.interval=2", *changes)
    return replace(plan, decide=heads_of_first_layer_to(1, 0))


def assert_recovered(made: RecordedRun, device: str, plan: Plan) -> None:
    assert tokens_of(made) == reference_tokens(plan)
    assert device in [row.lost for row in made.recorded.rows["recoveries"]]
    assert device_pids() == []


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("device", ROLES.values())
@pytest.mark.parametrize("time", ["virtual", "realtime"])
def test_a_device_that_is_killed_in_decoding_costs_no_token(time: str, device: str, concurrency: int) -> None:
    plan = plan_of(f"time.mode={time}", f"workload.concurrency={concurrency}")
    for number in (1, 4, 7):
        assert_recovered(run_struck(plan, "next_token", sent(device, signal.SIGKILL), number), device, plan)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("mode", ["pause", "precopy"])
def test_a_device_that_is_killed_in_any_phase_of_a_migration_costs_no_token(mode: str, phase: str, role: str) -> None:
    """In virtual mode with one sequence, and paced with four."""
    for how in (["time.mode=virtual"], ["time.mode=realtime", "workload.concurrency=4"]):
        plan = moving(f"migration.mode={mode}", *how)
        assert_recovered(run_struck(plan, phase, sent(ROLES[role], signal.SIGKILL)), ROLES[role], plan)


@pytest.mark.parametrize("phase", ["halt", "rewind", "prepare", "ship", "copying", "commit", "follow"])
@pytest.mark.parametrize("time", ["virtual", "realtime"])
def test_a_device_that_is_killed_in_a_recovery_has_it_begin_again(time: str, phase: str) -> None:
    """The first goes by the scenario, at its instant; a fault that is to come later is not waited for."""
    crash, later = Fault(FaultKind.CRASH, (2,)), Fault(FaultKind.HANG, (0,), for_s=0.1)
    events = FaultEvent(crash, at_token=3), FaultEvent(later, at_s=LATE_S)
    plan = failing(plan_of(f"time.mode={time}", "workload.concurrency=4"), *events)
    made = run_struck(plan, phase, sent("b-1", signal.SIGKILL))
    assert tokens_of(made) == reference_tokens(plan)
    assert max(row.emulated_s for row in made.tokens) < LATE_S
    lost = [row.lost for row in made.recorded.rows["recoveries"]]
    assert {"b-1", "b-2"} == set(", ".join(lost).split(", "))
    assert device_pids() == []


@pytest.mark.parametrize("time", ["virtual", "realtime"])
def test_a_device_that_is_stopped_for_good_is_noticed_by_its_beats(time: str) -> None:
    plan = plan_of(f"time.mode={time}", "workload.concurrency=4")
    assert_recovered(run_struck(plan, "next_token", sent("b-1", signal.SIGSTOP), 3), "b-1", plan)


@pytest.mark.parametrize("time", ["virtual", "realtime"])
def test_a_device_that_is_stopped_for_a_while_just_was_slow(time: str) -> None:
    patient = "recovery={caches: reprefill, heartbeat: {interval: 500 ms}}"
    plan = plan_of(f"time.mode={time}", "workload.concurrency=4", patient)
    made = run_struck(plan, "next_token", for_a_while("b-1", 0.3), 3)
    assert tokens_of(made) == reference_tokens(plan)
    assert not made.recorded.rows.get("recoveries")
    assert device_pids() == []


def on_processes(plan: Plan) -> RecordedRun:
    made = RecordedRun(plan, ProcessBackend(plan, Silent().phase, keep_logits=True))
    uvloop.run(made.run())
    assert device_pids() == []
    return made


FAULTS = {
    "crash": [FaultEvent(Fault(FaultKind.CRASH, (1,)), at_token=3)],
    "crash at an instant": [FaultEvent(Fault(FaultKind.CRASH, (2,)), at_s=0.05)],
    "reboot": [FaultEvent(Fault(FaultKind.REBOOT, (1,), for_s=0.05), at_token=2)],
    "back before it was missed, and another crashes then": [
        FaultEvent(Fault(FaultKind.REBOOT, (1,), for_s=1e-5), at_s=0.03),
        FaultEvent(Fault(FaultKind.CRASH, (2,)), at_s=0.03002),
    ],
    # In the middle of a step: at a token its sender could stand still before or after it has sent that.
    "hang": [FaultEvent(Fault(FaultKind.HANG, (1,)), at_s=0.056)],
    "hang that is over": [FaultEvent(Fault(FaultKind.HANG, (1,), for_s=0.15), at_token=3)],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_virtual_runs_with_faults_are_as_simulated(fault: str, concurrency: int) -> None:
    plan = failing(plan_of(f"workload.concurrency={concurrency}"), *FAULTS[fault])
    made, foretold = on_processes(plan), RecordedRun(plan, SimulatedBackend(plan))
    uvloop.run(foretold.run())
    assert tokens_of(made) == reference_tokens(plan)
    assert [row.emulated_s for row in made.tokens] == pytest.approx([row.emulated_s for row in foretold.tokens])
    for table in ("recoveries", "faults"):
        assert made.recorded.rows.get(table) == foretold.recorded.rows.get(table)
    assert_counted_alike(made.recorded, foretold.recorded)
    if fault in ("crash at an instant", "hang"):
        assert given_up(made)
    if fault == "hang that is over":
        assert not given_up(made)


def given_up(made: RecordedRun) -> set[str]:
    """Devices that have computed for steps that were given up."""
    return {row.device for row in made.ops if row.step == GIVEN_UP}


def was_stopped_late(made: RecordedRun) -> bool:
    """Whether a device that makes all tokens has made one while it should have stood still: the host was busy."""
    begun, noticed = made.recorded.rows["faults"]
    return any(begun.at_s < row.emulated_s < noticed.at_s for row in made.tokens)


def was_late(made: RecordedRun) -> bool:
    """Whether a device was still at what it should have done before another stood still: the host was busy."""
    begun, _ = made.recorded.rows["faults"]
    return any(row.end_s <= begun.at_s < row.end_s + row.late_s for row in made.ops)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_paced_runs_with_faults_write_the_same_text(fault: str, concurrency: int) -> None:
    plan = failing(plan_of("time.mode=realtime", f"workload.concurrency={concurrency}"), *FAULTS[fault])
    made = on_processes(plan)
    assert tokens_of(made) == reference_tokens(plan)
    assert_sums_are_true(made.recorded)
    lost = [row.lost for row in made.recorded.rows.get("recoveries", [])]
    assert len(lost) == (fault != "hang that is over")
    if fault == "hang":  # the others compute until it is noticed
        assert given_up(made) or was_stopped_late(made) or was_late(made)


@pytest.mark.parametrize("time", ["virtual", "realtime"])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_survivors_drop_what_they_hold_where_there_is_no_room_beside_it(concurrency: int, time: str) -> None:
    changes = FOUR, "workload.max_tokens=6", f"workload.concurrency={concurrency}", f"time.mode={time}"
    full = crowded(*changes, REPREFILL)
    plan = failing(full, FaultEvent(Fault(FaultKind.CRASH, (2,)), at_token=3))
    made, foretold = on_processes(plan), simulated(plan)
    assert tokens_of(made) == reference_tokens(plan)
    (row,) = foretold.recorded.rows["recoveries"]
    assert (row.lost, row.outcome) == ("b-2", "recovered")
    assert row.moves == len(plan.placement.owner)
    asked = [each for each in foretold.recorded.rows["decisions"] if each.event == "placed anew"]
    assert [("no device has room" in each.problem) for each in asked] == [True, False]
    if time == "virtual":
        assert made.recorded.rows["recoveries"] == foretold.recorded.rows["recoveries"]
        assert [each.emulated_s for each in made.tokens] == pytest.approx([each.emulated_s for each in foretold.tokens])


def test_a_device_that_is_back_at_once_may_have_what_it_had() -> None:
    """Nobody else has room for it."""
    full = crowded(FOUR, "workload.max_tokens=6", REPREFILL)
    plan = failing(full, FaultEvent(Fault(FaultKind.REBOOT, (2,), for_s=1e-5), at_s=0.03))
    made, foretold = on_processes(plan), simulated(plan)
    assert tokens_of(made) == reference_tokens(plan)
    assert made.recorded.rows["recoveries"] == foretold.recorded.rows["recoveries"]


REPLICATE = "recovery={caches: replicate, heartbeat: {interval: 100 ms}}"


def replicated(*changes: str) -> Plan:
    return plan_of(REPLICATE, *changes)


def simulated(plan: Plan) -> RecordedRun:
    made = RecordedRun(plan, SimulatedBackend(plan))
    uvloop.run(made.run())
    return made


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("device", ROLES.values())
@pytest.mark.parametrize("time", ["virtual", "realtime"])
def test_a_device_with_replicas_that_is_killed_in_decoding_costs_no_token(
    time: str, device: str, concurrency: int
) -> None:
    plan = replicated(f"time.mode={time}", f"workload.concurrency={concurrency}")
    for number in (1, 5):
        assert_recovered(run_struck(plan, "next_token", sent(device, signal.SIGKILL), number), device, plan)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("mode", ["pause", "precopy"])
def test_a_device_with_replicas_that_is_killed_in_a_migration_costs_no_token(mode: str, phase: str, role: str) -> None:
    plan = moving(REPLICATE, f"migration.mode={mode}", "workload.concurrency=4")
    assert_recovered(run_struck(plan, phase, sent(ROLES[role], signal.SIGKILL)), ROLES[role], plan)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_virtual_runs_with_replicas_are_as_simulated(fault: str, concurrency: int) -> None:
    plan = failing(replicated(f"workload.concurrency={concurrency}"), *FAULTS[fault])
    made, foretold = on_processes(plan), simulated(plan)
    assert tokens_of(made) == reference_tokens(plan)
    assert [row.emulated_s for row in made.tokens] == pytest.approx([row.emulated_s for row in foretold.tokens])
    for table in ("recoveries", "faults"):
        assert made.recorded.rows.get(table) == foretold.recorded.rows.get(table)
    assert made.devices.measured.sent_bytes == foretold.devices.measured.sent_bytes
    assert_counted_alike(made.recorded, foretold.recorded)


def carried_bytes(made: RecordedRun, *, to_replicas: bool = False) -> dict[tuple[int, int], int]:
    """Bytes in the table of links by path, or only those to replicas."""
    numbers = {device.name: device.index for device in made.plan.cluster.devices}
    found: dict[tuple[int, int], int] = {}
    for row in made.recorded.rows["links"]:
        if row.step == NO_STEP or not to_replicas:
            path = numbers[row.source], numbers[row.target]
            found[path] = found.get(path, 0) + row.bytes
    return found


@pytest.mark.parametrize("time", ["virtual", "realtime"])
def test_links_carry_what_replicas_are_sent(time: str) -> None:
    """All that was sent is in their table; of a paced run, what had arrived when devices were told to end."""
    plan = replicated(f"time.mode={time}", "workload.concurrency=4")
    made = on_processes(plan)
    carried, to_replicas = carried_bytes(made), carried_bytes(made, to_replicas=True)
    sent_bytes = made.devices.measured.sent_bytes
    assert sent_bytes is not None
    assert len(to_replicas) >= 3
    if time == "virtual":
        assert carried == sent_bytes
        assert carried == carried_bytes(simulated(plan))
        return
    lost_bytes = {path: sent_bytes[path] - size_bytes for path, size_bytes in carried.items()}
    assert all(0 <= lost_bytes[path] <= to_replicas.get(path, 0) / 2 for path in carried)
    assert all(row.transit_s > row.delay_s for row in made.recorded.rows["links"])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_paced_runs_with_replicas_write_the_same_text(fault: str, concurrency: int) -> None:
    plan = failing(replicated("time.mode=realtime", f"workload.concurrency={concurrency}"), *FAULTS[fault])
    made = on_processes(plan)
    assert tokens_of(made) == reference_tokens(plan)
    assert device_pids() == []


NARROW = """
model: {shape: {n_layers: 3, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 100,
  max_context: 64}}
devices: [{name: d, count: 2, gflops: 1 GFLOPS, mem_bandwidth: 20 MB/s, memory: 171 KiB}]
network: {default: {bandwidth: 20 Mbit/s, delay: 2 ms}}
policy: layers
workload: {prompts: [{tokens: 9}], max_tokens: 4}
time: {mode: virtual}
decisions: {time: 0 ms}
migration: {weights_on_flash: true, flash_bandwidth: 20 MB/s}
recovery: {caches: replicate}
faults:
  - {at: 0 s, device: d-2, fault: reboot, for: 2 ms}
  - {at: 3 ms, device: d-1, fault: crash}
"""


def test_a_device_that_is_back_holds_no_replicas_and_has_their_room() -> None:
    """It has room for the whole model, but not beside the replicas that it had."""
    plan = make_plan(parse_scenario(NARROW))
    made, foretold = on_processes(plan), simulated(plan)
    assert tokens_of(made) == reference_tokens(plan)
    for run in (made, foretold):
        assert [row.attempts for row in run.recorded.rows["recoveries"]] == [1, 1]
    assert made.recorded.rows["recoveries"] == foretold.recorded.rows["recoveries"]


def test_what_was_under_way_to_a_device_that_was_lost_is_no_replica_there() -> None:
    """Back without replicas, it reads weights and is sent rows, when it is lost again; then the owner of all is."""
    roomy = ("devices[0].mem_bandwidth=5 MB/s", "devices[0].memory=1 MiB", "policy=single")
    faults = (
        "{at: 1 ms, device: d-2, fault: reboot, for: 1 ms}",
        "{at: 34 ms, device: d-2, fault: reboot, for: 1 ms}",
        "{at: 42 ms, device: d-1, fault: crash}",
    )
    plan = make_plan(parse_scenario(NARROW, "narrow", [*roomy, f"faults=[{', '.join(faults)}]"]))
    made, foretold = on_processes(plan), simulated(plan)
    assert tokens_of(made) == reference_tokens(plan)
    (recovery,) = foretold.recorded.rows["recoveries"]
    assert (recovery.rows, recovery.placed_s > recovery.noticed_s) == (9, True)  # all computed again, from storage
    assert made.recorded.rows["recoveries"] == [recovery]


@pytest.mark.parametrize("device", [0, 1, 2])
@pytest.mark.parametrize("at_token", [2, 4])
def test_the_loss_of_a_device_with_replicas_costs_two_token_times_at_most(device: int, at_token: int) -> None:
    undisturbed = simulated(replicated("workload.concurrency=1"))
    plan = failing(
        replicated("workload.concurrency=1"), FaultEvent(Fault(FaultKind.CRASH, (device,)), at_token=at_token)
    )
    made = simulated(plan)
    (recovery,) = made.recorded.rows["recoveries"]
    latencies_s = [row.latency_s for row in undisturbed.tokens if row.step]
    assert recovery.rows <= 2
    assert recovery.restored_s - recovery.noticed_s <= 2 * max(latencies_s)
    assert recovery.bytes == 0
