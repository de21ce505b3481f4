"""Costs of faults are summed up: availability, blocks, rows, time by part, beats."""

import pytest
from support.facts import some_facts
from support.failing_simulated import ran

from edgeemu.report.facts import Heartbeats
from edgeemu.report.failures import failure_lines, failures_document, recovery_table


def test_time_that_two_recoveries_have_in_common_counts_once() -> None:
    """One device hangs, and before that is noticed another crashes: its recovery needs nothing of the first."""
    faults = "faults=[{at: 0.15 s, device: b-3, fault: hang}, {at: 0.16 s, device: a, fault: crash}]"
    run = ran(faults, "workload.max_tokens=40")
    crash, hang = run.records.rows["recoveries"]
    assert hang.began_s < crash.began_s < crash.restored_s < hang.noticed_s
    document = failures_document(run.records, some_facts(heartbeat=Heartbeats(0.1, 64)), 0.0, run.end_s)
    assert document is not None
    assert document["availability"] == pytest.approx(1 - (hang.restored_s - hang.began_s) / run.end_s)


def test_time_beyond_the_run_is_not_part_of_its_availability() -> None:
    run, facts = ran("faults=[{at: 0.2 s, device: b-1, fault: crash}]"), some_facts(heartbeat=Heartbeats(0.1, 64))
    (row,) = run.records.rows["recoveries"]
    middle_s = (row.began_s + row.restored_s) / 2
    document = failures_document(run.records, facts, 0.0, middle_s)
    assert document is not None
    assert document["availability"] == pytest.approx(row.began_s / middle_s)
    document = failures_document(run.records, facts, middle_s, run.end_s)
    assert document is not None
    assert document["availability"] == pytest.approx((run.end_s - row.restored_s) / (run.end_s - middle_s))


def test_a_loss_meanwhile_counts_blocks_once_and_is_no_part_of_deciding() -> None:
    run = ran("faults=[{at: 0.2 s, device: b-1, fault: crash}, {at: 0.2002 s, device: b-2, fault: crash}]")
    (row,) = run.records.rows["recoveries"]
    assert row.attempts == 2
    assert row.decided_s == row.noticed_s < row.placed_s
    first = [each for each in run.records.rows["placements"] if each.epoch == 0 and each.device in ("b-1", "b-2")]
    assert row.blocks == sum(each.end - each.first for each in first)


def test_a_fault_after_the_end_is_told() -> None:
    assert (
        "a fault at 100 s had not come when the run ended"
        in ran("faults=[{at: 100 s, device: b-1, fault: crash}]").told
    )
    told = ran("faults=[{at: 100 s, device: b-1, fault: crash}, {at: 90 s, device: a, fault: hang}]").told
    assert "2 faults, from 90 s on, had not come when the run ended" in told


def test_a_short_hang_is_no_lack_of_speed() -> None:
    """Also one in which no beat is missing: nothing moves because of it."""
    hangs = ", ".join(f"{{at: {at} ms, device: b-1, fault: hang, for: 40 ms}}" for at in (110, 210, 320))
    run = ran(f"faults=[{hangs}]", "policy=lookahead", "workload.max_tokens=30")
    assert not run.records.rows["migrations"]


def test_what_faults_cost_is_summed_up() -> None:
    run = ran("faults=[{at: 0.2 s, device: b-1, fault: reboot, for: 20 ms}]")
    facts = some_facts(heartbeat=Heartbeats(0.1, 64))
    document = failures_document(run.records, facts, 0.0, run.end_s)
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
    assert failures_document(ran().records, some_facts(), 0.0, 1.0) is None
    unharmed = failures_document(ran().records, facts, 0.0, 1.0)
    assert not list(failure_lines(unharmed))
    (shown,) = recovery_table(run.records).rows
    assert (shown[0], shown[-1]) == ("b-1", "recovered")
