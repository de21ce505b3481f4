"""Ends of processes that must end, whatever they do. Knows process ids; no devices."""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterable

from edgeemu.errors import RunError
from edgeemu.host.stopped import is_stopped

END_TIMEOUT_S = 10.0  # a killed process has to give its memory back


def end_server(server: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of the fork server, which has been told; kill it if it is stopped or takes too long."""
    try:
        server.wait(0.0 if is_stopped(server.pid) else END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def kill(processes: Iterable[tuple[str, int, int]]) -> None:
    """Kill processes, each a name, a process id and a descriptor of the process, which is closed.

    Raises:
        RunError: some do not end; it names them.
    """
    there = list(processes)
    for _, _, pidfd in there:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    stuck = []
    for name, pid, pidfd in there:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(END_TIMEOUT_S * 1000):
            stuck.append(f"{name} (pid {pid})")
        os.close(pidfd)
    if stuck:
        raise RunError(f"could not be killed: {', '.join(stuck)}")
