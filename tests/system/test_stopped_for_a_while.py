"""A device that is stopped from outside for a second: nothing is recovered, and the certificate tells of it."""

import asyncio
import os
import signal
from pathlib import Path

import uvloop
from support.device_pids import device_pids
from support.moving import reference_tokens
from support.several import SCENARIO

from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

STOPPED_S = 1.0


class Stops(Silent):
    """Stops a device when the second token is there, and has it go on later."""

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:  # noqa: ARG002  # an observer
        if (index, step) == (0, 1):
            pid = device_pids()[-1]
            os.kill(pid, signal.SIGSTOP)
            asyncio.get_running_loop().call_later(STOPPED_S, os.kill, pid, signal.SIGCONT)


def test_a_second_is_no_loss_and_is_told(tmp_path: Path) -> None:
    changes = ["time.mode=realtime", "recovery=reprefill", "workload.max_tokens=6", "workload.concurrency=1"]
    scenario = parse_scenario(SCENARIO, "stopped", changes)
    run = run_scenario(scenario, policy="layers", out=tmp_path, observer=Stops())
    summary = uvloop.run(run).summary
    assert summary["tokens"] == reference_tokens(make_plan(scenario, "layers"))
    assert summary["failures"]["recoveries"] == 0
    assert summary["certificate"]["verdict"] in ("WARN", "INVALID")
    stopped = [reason for reason in summary["certificate"]["reasons"] if "was stopped from outside for about" in reason]
    assert len(stopped) == 1, summary["certificate"]["reasons"]
    assert stopped[0].startswith(("a was", "b-1 was", "b-2 was"))
