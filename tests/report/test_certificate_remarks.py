"""A certificate names what happened to the host's clocks, and the runs that a run went on from."""

from collections.abc import Sequence
from typing import Any

import pytest
from support.facts import some_facts, token_row

from edgeemu.host.clock_watch import ClockJump
from edgeemu.host.stopped import Standstill
from edgeemu.links.stalls import STALL_S
from edgeemu.report.facts import ResumedFrom
from edgeemu.report.rows import DeviceRow, FaultRow
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.report.summary import summarise


def certificate(faults: Sequence[FaultRow] = (), stalled_s: float = 0.0, **facts: Any) -> dict[str, Any]:
    """Make the certificate of a run that kept its clock, with some facts, faults, and stalls of its first device."""
    records = RowsInMemory()
    records.append("faults", faults)
    records.append("devices", [DeviceRow("pi", 0, 1, 0, 0, 0, 0, 0, 0, 0, stalled_s, 0.0, 0.0, None)])
    rows = [token_row(0, step, 0.5 + 0.1 * step, 0.1 if step else 0.5) for step in range(10)]
    records.append("tokens", [row._replace(wall_s=row.emulated_s, wall_latency_s=row.latency_s) for row in rows])
    made: dict[str, Any] = summarise(records, some_facts(**{"mode": "realtime", "reordered": 0} | facts))["certificate"]
    return made


@pytest.mark.parametrize(("links", "verdict"), [("stamped", "PASS"), ("kernel", "WARN")])
def test_sleep_of_the_host_is_named(links: str, verdict: str) -> None:
    found = certificate(links=links, clock_jumps=[ClockJump("sleep", 42.125, 0.75)])
    assert found["verdict"] == verdict
    (reason,) = found["reasons"]
    assert reason.startswith("the host slept for 42.12 s, noticed at 0.750 s of the timeline; ")


def test_devices_that_were_stopped_for_a_while_are_named() -> None:
    found = certificate(standstills=[Standstill("nano", 1.0, 0.75)])
    assert found["verdict"] == "WARN"
    assert found["reasons"] == [
        "nano was stopped from outside for about 1.00 s of the clock, and went on at 0.750 s of the timeline: "
        "no device was lost"
    ]


def over(kind: str, what: str, begins_s: float, over_s: float) -> list[FaultRow]:
    """A fault that is over."""
    return [FaultRow(begins_s, what, kind, "begins"), FaultRow(over_s, what, kind, "over")]


def test_a_device_that_hung_by_a_fault_did_not_stand_still_otherwise() -> None:
    hung = over("hang", "pi", 0.6, 0.75)
    made = certificate(hung, stalled_s=0.3, links="hybrid", dilation=2.0)
    assert (made["stalled_s"], made["reasons"]) == ({}, [])
    longer = certificate(hung, stalled_s=0.4, links="hybrid", dilation=2.0)
    assert longer["stalled_s"] == {"pi": pytest.approx(0.1 - STALL_S)}
    assert certificate(over("hang", "nano", 0.6, 0.75), stalled_s=0.3, links="hybrid")["stalled_s"] == {"pi": 0.3}


@pytest.mark.parametrize("kind", ["down", "stall", "partition"])
def test_what_tcp_did_about_links_that_were_down_is_named(kind: str) -> None:
    down = over(kind, "pi – nano", 0.6, 0.8)
    made = certificate(down, links="kernel", dilation=4.0)
    assert made["verdict"] == "PASS"
    assert made["reasons"] == [
        "links that were down or stalled dropped all packets (1 fault), and real TCP sent them again: after 200 ms of "
        "the clock at first, of the timeline 50.0 ms"
    ]
    assert certificate(down, links="stamped")["reasons"] == []
    assert certificate(over("loss", "pi – nano", 0.6, 0.8), links="kernel")["reasons"] == []


def test_a_step_of_the_clock_is_named() -> None:
    found = certificate(clock_jumps=[ClockJump("step", -3600.0, 1.25), ClockJump("step", 0.5, 2.0)])
    assert found["verdict"] == "PASS"
    assert [reason.split(",")[0] for reason in found["reasons"]] == [
        "the host's clock was set by -3600.00 s",
        "the host's clock was set by +0.50 s",
    ]
    assert "noticed at 1.250 s of the timeline" in found["reasons"][0]


def test_the_runs_that_a_run_went_on_from_are_named() -> None:
    found = certificate(resumed=[ResumedFrom("first", 0.5), ResumedFrom("second", 1.25)])
    assert found["verdict"] == "PASS"
    assert found["reasons"] == [
        "resumed from first at 0.500 s: rows up to then are that run's",
        "resumed from second at 1.250 s: rows up to then are that run's",
    ]
