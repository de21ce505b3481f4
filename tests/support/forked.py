"""A process that `subprocess` has forked from the tests and that goes on, without `exec`, as a new program would begin.

It starts warm: the tests have done its imports, which take half a second of processor time. `subprocess` sets up its
directory, streams and session before, and the process never comes back to it.
"""

import contextlib
import faulthandler
import gc
import io
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NoReturn

_NO_PROGRAM = "forked from the tests"  # `subprocess` is never asked to start it


def fork_program(be: Callable[[], object], **options: Any) -> "subprocess.Popen[Any]":
    """Start a process that calls `be`, which ends it. `options` are those of `subprocess.Popen`."""

    def body() -> NoReturn:
        try:
            be()
        except BaseException:  # noqa: BLE001 - the process ends here
            traceback.print_exc()
        os._exit(1)

    return subprocess.Popen([_NO_PROGRAM], preexec_fn=body, **options)


def begin_program(keep: Collection[int] = (), *, unbuffered: bool = False) -> None:
    """Leave what the tests have: descriptors, but for standard streams and those to keep, signals and streams."""
    let_go(keep)  # also of the pipe by which `subprocess` learns that a program has started
    faulthandler.disable()
    gc.freeze()  # a collection must not touch, and so copy, what the tests have
    gc.enable()
    signal.set_wakeup_fd(-1)
    for sign in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(sign) is not signal.SIG_IGN:
            signal.signal(sign, signal.default_int_handler if sign == signal.SIGINT else signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.unraisablehook = sys.__unraisablehook__
    sys.stdin = sys.__stdin__ = _stream(0, "r", unbuffered=False)
    sys.stdout = sys.__stdout__ = _stream(1, "w", unbuffered=unbuffered)
    sys.stderr = sys.__stderr__ = _stream(2, "w", unbuffered=unbuffered)


def let_go(keep: Collection[int]) -> None:
    """Have no descriptor, but standard streams and those to keep, be what it was in the tests.

    None is closed: Arrow ends a process that forks when a pipe of its own is closed already.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in [int(each.name) for each in Path("/proc/self/fd").iterdir()]:
        if number > 2 and number not in keep and number != nothing:
            with contextlib.suppress(OSError):  # that by which they were listed
                os.fstat(number)
                os.dup2(nothing, number)


def _stream(number: int, mode: str, *, unbuffered: bool) -> Any:
    """Return a standard stream as Python makes it, None for one that is closed."""
    try:
        os.fstat(number)
    except OSError:
        return None
    if unbuffered:
        return io.TextIOWrapper(io.FileIO(number, mode, closefd=False), write_through=True)
    return open(number, mode, closefd=False)
