"""Limits of a block of code that may take long: a time, and the signals that end the command."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from edgeemu.errors import Interrupted

_REPEAT_S = 1.0  # the alarm is repeated, for code that caught it
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class OvertimeError(BaseException):
    """A policy exceeded its time limit. Not an Exception, so that a policy that catches those does not catch this."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted in a block when a signal comes that ends the command: an event loop would see it afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {number: signal.getsignal(number) for number in _ENDING}
    kept = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in kept:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """Raise OvertimeError in a block that takes longer. Only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise OvertimeError(f"the policy did not answer within {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    began_s = time.monotonic()
    earlier_s, _ = signal.setitimer(signal.ITIMER_REAL, limit_s, _REPEAT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        if earlier_s:  # an alarm that was set before goes on
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, earlier_s - (time.monotonic() - began_s)))
