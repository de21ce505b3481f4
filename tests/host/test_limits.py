"""Limits of the process: soft ones are raised, and too low hard ones are a sentence, where libraries would abort."""

import asyncio
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.fleets import next_exit

from edgeemu.errors import RunError
from edgeemu.host import limits
from edgeemu.host.fleet import Fleet

NEVER = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "then"),
    [(32, 4096, 100, 100), (32, 64, 100, 64), (500, 4096, 100, 500), (32, NEVER, 100, 100), (NEVER, NEVER, 9, NEVER)],
)
def test_soft_limits_are_raised_as_far_as_they_may(soft: int, hard: int, wanted: int, then: int) -> None:
    assert limits.raised(soft, hard, wanted) == then


def shell(limit: str, *arguments: str, directory: Path | None = None) -> "subprocess.CompletedProcess[str]":
    command = ["sh", "-c", f'ulimit {limit} && exec "$0" "$@"', sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ("-n 32", "40 file descriptors are needed, and this process may open 32: "),
        ("-v 300000", "edgeemu needs 1024 MiB of address space, and this process may have 292 MiB: "),
        ("-d 50000", "edgeemu needs 256 MiB of private memory, and this process may have 48 MiB: "),
    ],
)
def test_a_hard_limit_that_is_too_low_is_one_sentence(limit: str, why: str) -> None:
    run = shell(limit, "-m", "edgeemu", "models")
    assert (run.returncode, run.stdout) == (4, "")
    assert run.stderr.startswith(f"edgeemu: {why}")
    assert run.stderr.count("\n") == 1


def test_soft_limits_are_no_obstacle() -> None:
    run = shell("-S -n 16 && ulimit -S -v 300000 && ulimit -S -d 50000", "-m", "edgeemu", "models", "--json")
    assert (run.returncode, run.stderr) == (0, "")


def test_many_devices_need_many_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {resource.RLIMIT_NOFILE: (64, 1024)}
    monkeypatch.setattr(resource, "getrlimit", now.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", now.__setitem__)
    limits.fit_devices(2)
    assert now[resource.RLIMIT_NOFILE] == (64, 1024)
    limits.fit_devices(100)
    assert now[resource.RLIMIT_NOFILE] == (520, 1024)
    limits.fit_devices(400)
    assert now[resource.RLIMIT_NOFILE] == (1024, 1024)  # enough for the controller, and for sparse placements
    with pytest.raises(RunError, match=r"1,?040 file descriptors are needed, and this process may open 1024: "):
        limits.fit_devices(500)


def test_a_process_that_could_start_no_thread_is_explained() -> None:
    said = "Traceback (most recent call last):\n  …\nRuntimeError: can't start new thread"
    assert limits.shortage(said).startswith("no more threads or processes can be started")
    assert limits.shortage("RuntimeError: something else") == ""


def test_threads_that_cannot_be_started_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    limits.check_threads()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RunError, match=r"no more threads or processes can be started: .*ulimit -u.*pids.max"):
            limits.check_threads()

    def fail() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", fail)
    with pytest.raises(RunError, match="no more threads or processes"):
        limits.check_threads()


def test_a_device_that_aborts_for_want_of_something_is_explained() -> None:
    async def main() -> None:
        async with Fleet("support.fleet_entries:abort") as fleet:
            await fleet.fork("pi", b"Too many open files (src/ipc_listener.cpp:297)\n")
            ended = await next_exit(fleet)
            assert fleet.explain(ended) == (
                "device pi was killed by SIGABRT: it may not open as many files as it has connections: raise the limit "
                "with ulimit -n"
            )
            await fleet.fork("nano", b"Assertion failed: check ()\n")
            ended = await next_exit(fleet)
            assert fleet.explain(ended).startswith("device nano was killed by SIGABRT\nAssertion failed: check ()\n")

    asyncio.run(main())
