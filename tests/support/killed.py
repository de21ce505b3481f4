"""A run whose controller kills itself, by SIGKILL, in the middle of something: `python -m support.killed`."""

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

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
    arguments = [str(scenario), str(out), when, str(number), "simulate" if simulate else "run", *settings]
    ended = subprocess.run(
        [sys.executable, "-m", "support.killed", *arguments],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
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


def main(scenario: str, out: str, when: str, number: str, how: str, *settings: str) -> None:
    buffered_records.TICK_S = 0.0
    countdown = _Countdown(int(number), begun=when == "phase")
    for backend in (SimulatedBackend, ProcessBackend):
        backend.begin = countdown.begins(backend.begin)  # type: ignore[method-assign]
    for owner in (Silent, SimulatedBackend, ProcessBackend):
        if hasattr(owner, when):
            setattr(owner, when, countdown.kills(getattr(owner, when)))
    run = run_to_resume(Path(scenario), simulate=how == "simulate") if Path(scenario).is_dir() else None
    running = run_scenario(
        run.scenario if run else load_scenario(scenario, settings),
        policy=None,
        out=Path(out),
        observer=Silent(),
        simulate=how == "simulate",
        trust=True,
        resume=run,
    )
    uvloop.run(running)


if __name__ == "__main__":
    main(*sys.argv[1:])
