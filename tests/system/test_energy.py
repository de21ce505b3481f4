"""Energy of whole runs: processes and the simulator agree, migrations included."""

from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from support.moving import Shuffle
from support.watching import RecordedRun
from support.watts import scenario

from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.run_scenario import run_scenario
from edgeemu.run.simulated import SimulatedBackend


def shuffled(*changes: str) -> Plan:
    return replace(make_plan(scenario("migration.chunk=1 kB", *changes)), decide=Shuffle(3, 0.2))


def controlled(plan: Plan, devices: ProcessBackend | SimulatedBackend) -> RecordedRun:
    controller = RecordedRun(plan, devices)
    uvloop.run(controller.run())
    return controller


@pytest.mark.parametrize("time", ["virtual", "realtime"])
def test_processes_send_what_the_simulator_says_parcels_included(time: str) -> None:
    """Paced devices count for themselves, without the tokens of their warm-up."""
    changes = ("migration.mode=pause", f"time.mode={time}")
    real = ProcessBackend(shuffled(*changes), Silent().phase)
    ran = controlled(shuffled(*changes), real)
    simulated = SimulatedBackend(shuffled(*changes))
    controlled(simulated.plan, simulated)
    moved_bytes = sum(row.bytes for row in ran.migrations)
    assert moved_bytes > 0
    assert real.measured.sent_bytes == simulated.measured.sent_bytes
    assert sum((simulated.measured.sent_bytes or {}).values()) > moved_bytes


def test_a_background_copy_that_is_given_up_costs_what_was_sent_of_it() -> None:
    changes = ("migration.mode=precopy", "network.default.bandwidth=1 Mbit/s")
    real = ProcessBackend(shuffled(*changes), Silent().phase)
    ran = controlled(shuffled(*changes), real)
    simulated = SimulatedBackend(shuffled(*changes))
    controlled(simulated.plan, simulated)
    assert any(row.outcome == "aborted: the sequence ended" for row in ran.migrations)
    assert real.measured.sent_bytes == simulated.measured.sent_bytes


@pytest.mark.parametrize("at_once", [1, 2])
def test_run_and_simulate_agree_to_the_last_bit(tmp_path: Path, at_once: int) -> None:
    made = scenario(f"workload.concurrency={at_once}")
    ran, simulated = (
        uvloop.run(run_scenario(made, policy=None, out=tmp_path, observer=Silent(), simulate=simulate)).summary
        for simulate in (False, True)
    )
    assert ran["energy_j"] == simulated["energy_j"]
    assert ran["energy"] == simulated["energy"]
    energy = ran["energy"]
    parts = [part for device in energy["by_device"].values() for part in device.values()]
    assert all(part > 0 for part in parts)
    assert ran["energy_j"] == pytest.approx(sum(parts))
    assert energy["per_token_j"] == pytest.approx(ran["energy_j"] / 16)
    assert energy["missing"] is None


def test_a_run_without_figures_says_what_is_missing(tmp_path: Path) -> None:
    made = scenario("devices[0].power={}", "network.default.energy={}")
    summary = uvloop.run(run_scenario(made, policy=None, out=tmp_path, observer=Silent(), simulate=True)).summary
    assert summary["energy_j"] is None
    assert summary["energy"]["per_token_j"] is None
    assert summary["energy"]["missing"].startswith("a without idle or busy power: give power")
    assert "links without energy per bit, a to b-1" in summary["energy"]["missing"]
    assert summary["energy"]["by_device"]["a"] == {"idle_j": None, "busy_j": None, "radio_j": None}
