"""Stopped processes are named after some patience, and no failure of a callback leaves its caller waiting."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fleets import Runner, next_exit

from edgeemu.device import protocol_out
from edgeemu.errors import RunError
from edgeemu.host import fleet as fleet_module
from edgeemu.host import scratch
from edgeemu.host.fleet import Fleet
from edgeemu.host.owner import process_state
from edgeemu.host.stopped import PATIENCE, StopWatch, what_they_do
from edgeemu.run.processes import looks as looks_module
from edgeemu.run.processes import session as session_module
from edgeemu.run.processes.presence import Presence
from edgeemu.run.processes.session import Session

pytestmark = pytest.mark.alone  # it has limits of time
LOOK_EVERY_S = 0.01


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    while process_state(pid) != "T":
        time.sleep(0.001)


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as process:
        while process_state(process.pid) != "S":
            time.sleep(0.001)
        yield process.pid
        process.kill()


def test_a_process_that_is_stopped_is_named_after_some_patience(sleeper: int) -> None:
    watch, processes = StopWatch(), {"pi": sleeper, "controller": os.getpid()}
    stop(sleeper)
    assert [watch.look(processes) for _ in range(PATIENCE - 1)] == [""] * (PATIENCE - 1)
    assert watch.look(processes) == (
        f"pi (process {sleeper}) has been stopped (SIGSTOP, or Ctrl-Z) for 10 s, and the run waits"
    )


def test_a_process_that_goes_on_gets_all_patience_again(sleeper: int) -> None:
    watch, processes = StopWatch(), {"pi": sleeper}
    stop(sleeper)
    assert not any(watch.look(processes) for _ in range(PATIENCE - 1))
    os.kill(sleeper, signal.SIGCONT)
    while process_state(sleeper) == "T":
        time.sleep(0.001)
    assert watch.look(processes) == ""
    assert watch.went_on == {"pi": PATIENCE - 1.0}
    stop(sleeper)
    assert not any(watch.look(processes) for _ in range(PATIENCE - 1))
    assert not watch.went_on


def test_what_processes_do_is_told_of_some(sleeper: int) -> None:
    assert what_they_do({"pi": sleeper, "nano": 2**22 + 1}) == (
        f"pi (process {sleeper}) waits, nano (process {2**22 + 1}) has ended"
    )
    stop(sleeper)
    assert what_they_do({f"d{number}": sleeper for number in range(4)}, most=1) == (
        f"d0 (process {sleeper}) is stopped (SIGSTOP, or Ctrl-Z) and 3 others"
    )


def test_a_stopped_device_ends_what_waits_for_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "LOOK_EVERY_S", LOOK_EVERY_S)
    monkeypatch.setattr(looks_module, "LOOK_EVERY_S", LOOK_EVERY_S)

    async def main() -> None:
        async with Fleet("support.fleet_entries:sleep") as fleet:
            pid = await fleet.fork("pi", b"")
            await fleet.fork("nano", b"")
            session = Session(
                fleet.directory,
                fleet.exits,
                Presence(["pi", "nano"]),
                lambda _: None,
                lambda *_: RunError(),
                lambda: fleet.processes,
            )
            async with session:
                assert await session.receive_within(protocol_out.Token, 20 * LOOK_EVERY_S) is None
                stop(pid)
                with pytest.raises(RunError, match=rf"^pi \(process {pid}\) has been stopped"):
                    await session.receive(protocol_out.Token)
                os.kill(pid, signal.SIGCONT)
                monkeypatch.setattr(session_module, "ANSWER_TIMEOUT_S", 3 * LOOK_EVERY_S)
                with pytest.raises(RunError, match=r"no device has sent anything .* the fork server \(process .*nano"):
                    await session.receive(protocol_out.Token)
            await fleet.close(grace_s=0)

    asyncio.run(main())


def test_a_stopped_fork_server_ends_what_waits_for_a_device(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "LOOK_EVERY_S", LOOK_EVERY_S)

    async def main() -> None:
        async with Fleet("support.fleet_entries:sleep") as fleet:
            await fleet.fork("pi", b"")
            stop(fleet.processes["the fork server"])
            with pytest.raises(RunError, match=r"^the fork server \(process \d+\) has been stopped"):
                await fleet.fork("nano", b"")
            began_s = time.monotonic()
            await fleet.close(grace_s=0)
            assert time.monotonic() - began_s < 5  # and not as long as one that works may take

    run(main())


def test_a_failure_of_a_callback_reaches_who_waits(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_: Path, name: str, __: int) -> None:
        if name == "nano":
            raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(scratch, "record_process", full)

    async def main() -> None:
        async with Fleet("support.fleet_entries:sleep") as fleet:
            await fleet.fork("pi", b"")
            with pytest.raises(RunError, match=r"could not be handled: .*No space left on device"):
                await fleet.fork("nano", b"")
            assert (await next_exit(fleet)).name == "pi"  # nothing goes on as if nothing had been
            with pytest.raises(RunError, match="No space left"):
                await fleet.fork("third", b"")

    run(main())


def test_no_place_for_the_private_directory_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> Path:
        raise OSError("no writable directory")

    monkeypatch.setattr(scratch, "create", refuse)
    with pytest.raises(RunError, match=r"no private directory can be made \(see TMPDIR\): no writable directory"):
        asyncio.run(Fleet("support.fleet_entries:sleep").start())
