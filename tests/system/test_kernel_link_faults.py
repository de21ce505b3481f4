"""Devices and links fail in runs over links of the kernel: each text is what it would have been, nothing is left."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from support.device_pids import device_pids
from support.failing import REPREFILL, run_struck, sent
from support.kernel_links import KINDS, Links, interfaces, named, network_namespaces
from support.killed import killed_run
from support.several import SCENARIO, make, reference_tokens, tokens_of
from support.watching import RecordedRun

from edgeemu.links.netns.capabilities import Capabilities
from edgeemu.run.choose_links import LinkChoice
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

FOUR = ("workload.prompts=[{tokens: 7}, {tokens: 3}, {tokens: 5}, {tokens: 2}]", "workload.concurrency=4")
QUICK = KINDS[:2]  # without netem, for which machines may be slow
REPLICATE = REPREFILL.replace("reprefill", "replicate")


def plan_of(links: Links, faults: str, *changes: str) -> Plan:
    """Four sequences at a time, unless told otherwise."""
    settings = "workload.max_tokens=8", "time.mode=realtime", REPREFILL, *links[1]
    return make(*FOUR, *settings, f"faults=[{faults}]", *changes)


def on_links(plan: Plan, links: LinkChoice) -> RecordedRun:
    made = RecordedRun(plan, ProcessBackend(plan, Silent().phase, keep_logits=True, links=links))
    uvloop.run(made.run())
    return made


def assert_recovered(made: RecordedRun, lost: list[str]) -> None:
    assert tokens_of(made) == reference_tokens(made.plan)
    assert lost_in(made) == lost
    assert {row.outcome for row in made.recorded.rows.get("recoveries", [])} <= {"recovered"}
    assert device_pids() == []


def lost_in(made: RecordedRun) -> list[str]:
    return [row.lost for row in made.recorded.rows.get("recoveries", [])]


def joined_in(made: RecordedRun) -> list[str]:
    return [row.what for row in made.recorded.rows["faults"] if row.kind == "join"]


def private_directories() -> set[Path]:
    """Private directories of runs, which their fork servers remove last."""
    return set(Path(os.environ["XDG_RUNTIME_DIR"]).iterdir())


def assert_soon(holds: Callable[[], bool]) -> None:
    """Killed processes need a moment to be gone."""
    deadline_s = time.monotonic() + 10.0
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


CRASH = "{at_token: 2, device: b-1, fault: crash}"
REBOOT = "{at_token: 2, device: b-2, fault: reboot, for: 30 ms}"
REBOOT_AT_ONCE = "{at: 15 ms, device: b-1, fault: reboot, for: 10 us}, {at: 15.02 ms, device: b-2, fault: crash}"
DOWN = "{at: 40 ms, link: [a, b-1], fault: down, for: 150 ms}"
STALL = "{at: 40 ms, link: [a, b-1], fault: stall, for: 150 ms}"
CUT_OFF = "{at: 40 ms, partition: [[], [b-1]], for: 350 ms}"  # with 300 ms until it is noticed
BURST = "{at: 20 ms, link: [a, b-2], fault: loss, loss: 30 %, for: 60 ms}"


@pytest.mark.parametrize("links", QUICK, indirect=True, ids=named)
@pytest.mark.parametrize(("number", "caches"), [(2, REPREFILL), (9, REPREFILL), (2, REPLICATE), (9, REPLICATE)])
def test_a_device_that_is_killed_costs_no_token(links: Links, number: int, caches: str) -> None:
    plan = plan_of(links, "", caches)
    assert_recovered(run_struck(plan, "next_token", sent("b-1", signal.SIGKILL), number, links[0]), ["b-1"])


@pytest.mark.parametrize("links", QUICK, indirect=True, ids=named)
@pytest.mark.parametrize(
    ("fault", "concurrency", "lost"),
    [
        (CRASH, 1, ["b-1"]),
        (REBOOT, 4, ["b-2"]),
        (REBOOT_AT_ONCE, 4, ["b-1, b-2"]),
        ("{at_token: 2, device: b-1, fault: hang}", 4, ["b-1"]),
        (DOWN, 1, []),
        (DOWN, 4, []),
        (STALL, 4, []),
        (CUT_OFF, 1, ["b-1"]),
        (CUT_OFF, 4, ["b-1"]),
    ],
)
def test_a_fault_costs_no_token(links: Links, fault: str, concurrency: int, lost: list[str]) -> None:
    made = on_links(plan_of(links, fault, f"workload.concurrency={concurrency}"), links[0])
    assert_recovered(made, lost)
    assert made.recorded.rows["faults"]


def test_devices_that_reboot_and_links_that_fail_meanwhile_cost_no_token(links: Links) -> None:
    """In one run, because a machine with netem may be slow."""
    burst = [] if links[0].kind == "kernel" and not links[0].netem else [BURST]
    made = on_links(plan_of(links, ", ".join([REBOOT, DOWN, *burst]), "workload.max_tokens=16"), links[0])
    assert_recovered(made, ["b-2"])
    assert joined_in(made) == ["b-2"]
    over = {row.kind for row in made.recorded.rows["faults"] if row.moment == "over"}
    assert over == {"reboot", "down", *(["loss"] if burst else [])}


def test_a_killed_device_and_one_that_is_cut_off_cost_no_token(links: Links) -> None:
    """The one that is cut off is killed when that is noticed, and there again when the network is whole."""
    plan = plan_of(links, CUT_OFF, "workload.max_tokens=24", "workload.concurrency=2")
    made = run_struck(plan, "next_token", sent("b-2", signal.SIGKILL), 5, links[0])
    assert set(", ".join(lost_in(made)).split(", ")) == {"b-1", "b-2"}  # at once, or one after the other
    assert_recovered(made, lost_in(made))
    assert joined_in(made) == ["b-1"]


@pytest.mark.parametrize("links", QUICK, indirect=True, ids=named)
def test_a_device_that_joins_takes_what_others_lose(links: Links) -> None:
    joins = "{at: 20 ms, device: b-2, fault: join}, {at_token: 6, device: b-1, fault: crash}"
    made = on_links(plan_of(links, joins, "workload.max_tokens=12"), links[0])
    assert_recovered(made, ["b-1"])
    assert joined_in(made) == ["b-2"]
    assert "b-2" in {row.device for row in made.ops}


@pytest.mark.parametrize("links", QUICK[:1], indirect=True, ids=named)
@pytest.mark.parametrize("fault", [CRASH, DOWN, CUT_OFF], ids=["crash", "down", "cut off"])
@pytest.mark.parametrize("topology", ["line", "star", "shared channel"])
def test_other_topologies_fail_alike(links: Links, topology: str, fault: str) -> None:
    """In a line a device that is gone still relays, as its kernel is there: it is cut off by its links alone."""
    changes = ["network.topology=line"]
    if topology != "line":
        shared = str(topology == "shared channel").lower()
        changes = ["network.topology=star", f"network.star={{shared_airtime: {shared}}}"]
        fault = fault.replace("[a, b-1]", "[ap, b-1]")
    made = on_links(plan_of(links, fault, *changes), links[0])
    away = {"line": ["b-1, b-2"]}.get(topology, ["b-1"])
    assert_recovered(made, {CRASH: ["b-1"], CUT_OFF: away}.get(fault, []))


@pytest.mark.parametrize(("when", "number"), [("restart_device", 1), ("change", 1), ("next_token", 9)])
def test_nothing_is_left_of_a_run_whose_controller_is_killed(
    host: Capabilities, tmp_path: Path, when: str, number: int
) -> None:
    if why := host.why_not("hybrid", link_faults=True):
        pytest.skip(why)
    scenario = tmp_path / "several.yaml"
    scenario.write_text(SCENARIO)
    settings = (*FOUR, "time.mode=realtime", "network.backend=hybrid", REPREFILL, f"faults=[{REBOOT}, {CUT_OFF}]")
    before = interfaces(), network_namespaces(), private_directories()
    killed_run(scenario, tmp_path / "runs", when, number, *settings)
    assert_soon(lambda: device_pids() == [] and (interfaces(), network_namespaces(), private_directories()) == before)


def test_the_certificate_says_what_a_fault_means_on_links_of_the_kernel(host: Capabilities, tmp_path: Path) -> None:
    if why := host.why_not("hybrid", link_faults=True):
        pytest.skip(why)
    changes = *FOUR, REPREFILL, "time.mode=realtime", "network.backend=hybrid", f"faults=[{DOWN}]"
    scenario = parse_scenario(SCENARIO, "several", changes)
    made = uvloop.run(run_scenario(scenario, policy=None, out=tmp_path, observer=Silent()))
    reasons = made.summary["certificate"]["reasons"]
    assert any(reason.startswith("links that were down or stalled dropped all packets (1 fault)") for reason in reasons)
    assert made.summary["failures"]["faults"] == {"down": 1}
