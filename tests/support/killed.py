"""A run whose controller kills itself, by SIGKILL, in the middle of something: in a process that is forked for it."""

import gc
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import uvloop

from edgeemu.run import buffered_records
from edgeemu.run.observer import Silent
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.resume.read_run import run_to_resume
from edgeemu.run.run_scenario import run_scenario
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import load_scenario


def killed_run(
    scenario: Path, out: Path, when: str, number: int, *settings: str, simulate: bool = False
) -> Path | None:
    """Run a scenario until its controller is killed; return the directory of the run, if it has come so far.

    `scenario` is its file, or the directory of a run that it goes on from. `when`: at the `number`-th call of a method
    of the observer or the backend, by name; but for phases, once the timeline has begun. Rows are written meanwhile.
    """
    with tempfile.TemporaryFile() as said:
        process = os.fork()
        if process == 0:
            _be_run(said.fileno(), scenario, out, when, number, settings, simulate=simulate)
        _, status = os.waitpid(process, 0)
        said.seek(0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, said.read().decode()
    return next(iter(out.iterdir()), None) if out.exists() else None


class _Countdown:
    def __init__(self, left: int, *, begun: bool) -> None:
        self._left = left
        self._begun = begun

    def kills(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that ends this process when it is called for the last time."""

        def called(*arguments: Any, **named: Any) -> Any:
            self._left -= self._begun
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*arguments, **named)

        return called

    def begins(self, begin: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return a method after which calls are counted."""

        async def called(*arguments: Any) -> Any:
            found = await begin(*arguments)
            self._begun = True
            return found

        return called


def _be_run(
    said_fd: int, scenario: Path, out: Path, when: str, number: int, settings: Sequence[str], *, simulate: bool
) -> NoReturn:
    """Run in the forked process, to its end by itself; what it has to say goes to the file."""
    try:
        gc.freeze()  # a collection must not touch, and so copy, what the tests have
        os.dup2(said_fd, 1)
        os.dup2(said_fd, 2)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        _run(scenario, out, when, number, settings, simulate=simulate)
        print("it ended before it was killed", file=sys.stderr)
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def _run(scenario: Path, out: Path, when: str, number: int, settings: Sequence[str], *, simulate: bool) -> None:
    buffered_records.TICK_S = 0.0
    countdown = _Countdown(number, begun=when == "phase")
    for backend in (SimulatedBackend, ProcessBackend):
        backend.begin = countdown.begins(backend.begin)  # type: ignore[method-assign]  # in a process of its own, which is killed
    for owner in (Silent, SimulatedBackend, ProcessBackend):
        if hasattr(owner, when):
            setattr(owner, when, countdown.kills(getattr(owner, when)))
    run = run_to_resume(scenario, simulate=simulate) if scenario.is_dir() else None
    running = run_scenario(
        run.scenario if run else load_scenario(scenario, settings),
        policy=None,
        out=out,
        observer=Silent(),
        simulate=simulate,
        trust=True,
        resume=run,
    )
    uvloop.run(running)
