"""Devices have no capabilities, also those of root, and wait in real time and on real links as before."""

import os
from pathlib import Path

import pytest
import uvloop
from support.moving import Shuffle, make

from edgeemu.host.realtime import RealtimePriority
from edgeemu.links.netns.capabilities import probe_host
from edgeemu.run.choose_links import STAMPED, LinkChoice
from edgeemu.run.observer import Silent
from edgeemu.run.processes.backend import ProcessBackend

NONE = "0" * 16
NICE = "0000000000800000"  # where only that gives real-time priority


def facts(task: Path) -> dict[str, str]:
    lines = (line.split(":", 1) for line in (task / "status").read_text().splitlines())
    return {name: text.strip() for name, text in lines}


@pytest.mark.parametrize("kind", ["stamped", "hybrid"])
def test_devices_keep_no_capability_in_any_thread(kind: str) -> None:
    choice = STAMPED
    if kind == "hybrid":
        host = probe_host()
        if why := host.why_not("hybrid"):
            pytest.skip(why)
        choice = LinkChoice("hybrid", rootless=host.rootless)
    plan = make("time.mode=realtime", decide=Shuffle(0, 0.0))
    backend = ProcessBackend(plan, Silent().phase, links=choice)

    async def run() -> list[dict[str, str]]:
        async with backend.launched():
            await backend.assign(plan)
            pids = [backend.process_ids[device.name] for device in plan.cluster.devices]
            return [facts(task) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]

    threads = uvloop.run(run())
    assert len(threads) >= (2 if kind == "stamped" else 4) * 3  # the writer's, or the receiver's and those of ZeroMQ
    for thread in threads:
        assert {thread[kind] for kind in ("CapEff", "CapInh", "CapAmb")} == {NONE}
        assert thread["CapPrm"] in (NONE, NICE)
        assert thread["NoNewPrivs"] == "1"
        if os.geteuid() == 0:
            assert thread["CapBnd"] == NONE
    if RealtimePriority().may and not choice.rootless:
        assert not [text for text in backend.measured.limitations if "real-time" in text]
