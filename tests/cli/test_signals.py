"""Signals at any moment: while the command is imported, while it plans, and twice."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from support.commands import Edgeemu

from edgeemu.errors import Interrupted
from edgeemu.host.until_signal import until_signal

WHILE_IMPORTING = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.{name})

sys.meta_path.insert(0, Finder())
sys.argv = ["edgeemu", "models", "--json"]
runpy.run_module("edgeemu", run_name="__main__")
"""

TWICE = """
import asyncio, os, signal
from edgeemu.host.until_signal import until_signal

async def records_that_take_long_to_write():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("not reached")

until_signal(records_that_take_long_to_write())
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_the_command_is_imported_is_a_message(sign: signal.Signals) -> None:
    code = WHILE_IMPORTING.format(name=sign.name)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (128 + sign, f"edgeemu: ended by {sign.name}\n")
    assert json.loads(run.stdout) == {"error": f"ended by {sign.name}", "status": 128 + sign}


def test_a_second_signal_leaves_at_once() -> None:
    run = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (128 + signal.SIGTERM, "", "")


def plan_for_ever(*_: Any, **__: Any) -> None:
    """Take the place of a function that is interrupted by Ctrl-C, and goes on for ever if that does nothing."""
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        pass


@pytest.mark.parametrize("command", ["simulate", "plan", "validate"])
def test_ctrl_c_while_planning(edgeemu: Edgeemu, tiny: str, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    from edgeemu.run import make_plan, planned

    monkeypatch.setattr(make_plan, "make_plan", plan_for_ever)
    monkeypatch.setattr(planned, "make_plan", plan_for_ever)
    status, out, err = edgeemu(command, tiny, "--json")
    assert status == 130
    assert err.endswith("edgeemu: ended by SIGINT\n")
    assert json.loads(out) == {"error": "ended by SIGINT", "status": 130}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # as before


def test_an_import_that_a_signal_broke_is_no_bug(edgeemu: Edgeemu, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeemu.run import make_plan

    def broken(*_: object, **__: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Interrupted as error:
            raise ImportError("numpy cannot be initialised") from error

    monkeypatch.setattr(make_plan, "make_plan", broken)
    assert edgeemu("plan", tiny) == (143, "", "edgeemu: ended by SIGTERM\n")


def test_a_signal_after_the_end_changes_nothing() -> None:
    async def done() -> str:
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGINT)
        return "figures"

    assert until_signal(done()) == "figures"
