"""A supervised process: it and all its descendants end with whoever started it, and leave nothing.

Started as `python -P -m edgeemu.host.supervisor module:function ARGUMENT…`. The supervisor forks the process that calls
the function, and stays behind without any other work. Its standard input says what happens: a byte asks the process to
end with a report of where it is (SIGABRT, which `faulthandler` answers also from C code); the end of the file, which
is also the end of whoever holds the other side, kills it. When the process has ended, by itself or not, the supervisor
kills what it has started, and leaves with its exit status (128 + the signal that killed it).
"""

import importlib
import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from edgeemu.host.owner import stat_fields
from edgeemu.host.prctl import SET_CHILD_SUBREAPER, SET_PDEATHSIG, prctl

REPORT_S = 0.5  # for the report of where the process is
_STDIN, _STDERR = 0, 2


def supervise(entry: str, arguments: Sequence[str]) -> int:
    """Run a function in a process of its own, to the end of it and of all that it starts. Returns its exit status."""
    prctl(SET_CHILD_SUBREAPER, 1)  # orphans of the process become children of this one
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_supervised(entry, arguments, supervisor)
    os.closerange(_STDERR + 1, os.sysconf("SC_OPEN_MAX"))  # whoever waits for their ends waits for the process only
    pidfd = os.pidfd_open(pid)
    events, _, _ = select.select([_STDIN, pidfd], [], [])
    if pidfd not in events and os.read(_STDIN, 1):
        os.kill(pid, signal.SIGABRT)
        select.select([pidfd], [], [], REPORT_S)
    return _end_children(pid)


def _be_supervised(entry: str, arguments: Sequence[str], supervisor: int) -> NoReturn:
    status = 1
    try:
        prctl(SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # it died before the line above
            os._exit(1)
        os.setsid()  # a signal to its process group is for it and its descendants only
        os.dup2(os.open(os.devnull, os.O_RDONLY), _STDIN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        module, function = entry.split(":")
        run: Callable[..., object] = getattr(importlib.import_module(module), function)
        run(*arguments)
        status = 0
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
    finally:
        os._exit(status)  # no atexit: threads and pools that were forgotten would keep the process


def _end_children(pid: int) -> int:
    """Kill all children, and those that they leave behind, until there are none. Returns the exit status of `pid`."""
    status = 1
    while True:
        for child in _children():
            os.kill(child, signal.SIGKILL)
        try:
            ended, how = os.waitpid(-1, 0)
        except ChildProcessError:
            return status
        if ended == pid:
            code = os.waitstatus_to_exitcode(how)
            status = code if code >= 0 else 128 - code


def _children() -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if int(stat_fields(int(process.name))[1]) == os.getpid():
                yield int(process.name)


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1], sys.argv[2:]))
