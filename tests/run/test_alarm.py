"""Limits of processor time: blocks that take longer end, and alarms that others have set go on."""

import signal
import time
from collections.abc import Iterator

import pytest

from edgeemu.run.alarm import Alarm, OvertimeError


@pytest.fixture
def free() -> Iterator[None]:
    """Leave alarms to the test: those of the time limit of tests wait until it is over."""
    before, left_s = signal.signal(signal.SIGALRM, signal.SIG_DFL), signal.setitimer(signal.ITIMER_REAL, 0.0)[0]
    yield
    signal.signal(signal.SIGALRM, before)
    signal.setitimer(signal.ITIMER_REAL, left_s)


def compute(busy_s: float) -> None:
    """Take so much processor time."""
    until_s = time.process_time() + busy_s
    while time.process_time() < until_s:
        pass


@pytest.mark.usefixtures("free")
def test_each_of_many_limits_ends_its_own_block() -> None:
    alarm = Alarm()
    with alarm.kept():
        kept = signal.getsignal(signal.SIGALRM)
        for _ in range(3):
            with (
                pytest.raises(OvertimeError, match=r"did not answer within 0\.(02 s of processor time|1 s)"),
                alarm.limit(0.02),
            ):
                compute(10.0)
            compute(0.04)  # longer than the limit, which is over
            with alarm.limit(10.0):
                compute(0.04)
            assert signal.getsignal(signal.SIGALRM) == kept
            assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


@pytest.mark.usefixtures("free")
def test_an_alarm_that_comes_as_its_block_ends_does_nothing() -> None:
    alarm = Alarm()
    with alarm.kept():
        with alarm.limit(10.0):
            pass
        signal.raise_signal(signal.SIGALRM)


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("handled", [True, False])
def test_an_alarm_of_somebody_else_goes_on(handled: bool) -> None:
    rung = list[int]()
    if handled:
        signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    before = signal.getsignal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 60.0)
    alarm = Alarm()
    with alarm.kept():
        assert signal.getsignal(signal.SIGALRM) == before
        with pytest.raises(OvertimeError), alarm.limit(0.02):
            compute(10.0)
        assert signal.getsignal(signal.SIGALRM) == before
        assert 50.0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60.0
        if handled:
            signal.raise_signal(signal.SIGALRM)
    assert rung == [1] * handled
