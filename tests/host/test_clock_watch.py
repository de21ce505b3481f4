"""Sleep and steps of clocks are told apart, by clocks that the test sets."""

import time
from itertools import count

import pytest

from edgeemu.host.clock_watch import ClockJump, ClockReading, ClockWatch, read_clocks


class Clocks:
    """Clocks of a host that sleeps, and whose wall clock is set, when a test says so."""

    def __init__(self) -> None:
        self.now = ClockReading(100.0, 170.0, 1_700_000_000.0)

    def read(self) -> ClockReading:
        return self.now

    def pass_s(self, run_s: float, sleep_s: float = 0.0, step_s: float = 0.0) -> None:
        monotonic_s, boot_s, wall_s = self.now
        self.now = ClockReading(monotonic_s + run_s, boot_s + run_s + sleep_s, wall_s + run_s + sleep_s + step_s)


@pytest.mark.parametrize(
    ("sleep_s", "step_s", "expected"),
    [
        (0.0, 0.0, []),
        (0.01, -0.02, []),
        (40.0, 0.0, [("sleep", 40.0)]),
        (0.0, -3600.0, [("step", -3600.0)]),
        (0.0, 0.5, [("step", 0.5)]),
        (7.0, 2.0, [("sleep", 7.0), ("step", 2.0)]),
    ],
)
def test_sleep_and_steps_are_told_apart(sleep_s: float, step_s: float, expected: list[tuple[str, float]]) -> None:
    clocks, jumps = Clocks(), list[ClockJump]()
    watch = ClockWatch(clocks.read, jumps)
    clocks.pass_s(1.0)
    watch.look(0.5)
    clocks.pass_s(1.0, sleep_s, step_s)
    watch.look(1.0)
    clocks.pass_s(1.0)
    watch.look(1.5)
    assert [jump.kind for jump in jumps] == [kind for kind, _ in expected]
    assert [jump.by_s for jump in jumps] == pytest.approx([by_s for _, by_s in expected], abs=1e-6)
    assert all(jump.at_s == 1.0 for jump in jumps)


def test_clocks_that_were_not_read_at_once_are_read_again() -> None:
    """The second call of twelve takes a second, as that of a process that does not run for a while."""
    monotonic_s = (n * 1e-6 + (1.0 if n >= 1 else 0.0) for n in count())
    instants = iter(monotonic_s)

    def clock_s(clock: int) -> float:
        return next(instants) + (50.0 if clock == time.CLOCK_BOOTTIME else 0.0)

    reading = read_clocks(clock_s)
    assert reading.boot_s - reading.monotonic_s == pytest.approx(50.0, abs=1e-4)


def test_the_clocks_of_this_host_do_not_jump() -> None:
    jumps = list[ClockJump]()
    watch = ClockWatch(read_clocks, jumps)
    for at in range(1000):
        watch.look(float(at))
    assert jumps == []
