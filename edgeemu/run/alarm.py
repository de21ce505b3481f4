"""Limits of processor time in the main thread, kept by the alarm of the process. Reads the clock; knows no policy."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from edgeemu.run.policy_process.process import WAIT

_REPEAT_S = 1.0  # the alarm is repeated, for code that caught it
_LEAST_S = 1e-3  # until an alarm


class OvertimeError(BaseException):
    """A policy exceeded its time limit. Not an Exception, so that a policy that catches those does not catch this."""


class Alarm:
    """Handler of alarms that ends a block of code, one at a time, whose limit is exceeded."""

    def __init__(self) -> None:
        self._limit_s: float | None = None  # None: no block is limited
        self._began_s = self._spent_s = 0.0  # by the clock, and of processor time
        self._kept = False  # whether alarms are handled here in between too

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Stay the handler in a block with many limits: to become it takes longer than all else that a limit needs.

        Nothing is kept where somebody else handles alarms, or has set one: it goes on between the limits.
        """
        if not _in_main_thread() or signal.getsignal(signal.SIGALRM) != signal.SIG_DFL or _is_set():
            yield
            return
        signal.signal(signal.SIGALRM, self._ring)
        self._kept = True
        try:
            yield
        finally:
            self._kept = False
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    @contextmanager
    def limit(self, limit_s: float) -> Iterator[None]:
        """Raise OvertimeError in a block that takes more processor time, or by the clock `WAIT` times as long.

        An alarm looks how much processor time was taken, and is set again for as much as is left. Only the main thread
        can be interrupted.
        """
        if not _in_main_thread():
            yield
            return
        self._limit_s, self._began_s, self._spent_s = limit_s, time.monotonic(), time.process_time()
        before = None if self._kept else signal.signal(signal.SIGALRM, self._ring)
        earlier_s, _ = signal.setitimer(signal.ITIMER_REAL, limit_s, _REPEAT_S)
        try:
            yield
        finally:
            self._limit_s = None
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            if before is not None:
                signal.signal(signal.SIGALRM, before)
            if earlier_s:  # an alarm that was set before goes on
                signal.setitimer(signal.ITIMER_REAL, max(_LEAST_S, earlier_s - (time.monotonic() - self._began_s)))

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        """Handle an alarm."""
        if self._limit_s is None:  # it came as the block ended
            return
        left_s = self._limit_s - (time.process_time() - self._spent_s)
        late = time.monotonic() - self._began_s >= WAIT * self._limit_s
        if late or left_s <= 0.0:
            within = f"{WAIT * self._limit_s:g} s" if late else f"{self._limit_s:g} s of processor time"
            raise OvertimeError(f"the policy did not answer within {within}")
        signal.setitimer(signal.ITIMER_REAL, max(_LEAST_S, left_s), _REPEAT_S)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _is_set() -> bool:
    """Whether an alarm is to come."""
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0.0
