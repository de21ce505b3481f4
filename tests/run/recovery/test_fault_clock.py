"""When faults begin, are noticed and are over, by hand and for any of them."""

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemu.cluster.faults import Fault, FaultEvent, FaultKind, FaultPlan, RandomFaults
from edgeemu.run.recovery.fault_clock import FaultClock, Moment, noticed_s

LINK = ((0, 1), (1, 0))


def clock(*events: FaultEvent, random: tuple[RandomFaults, ...] = ()) -> FaultClock:
    return FaultClock(FaultPlan(events, random), interval_s=1.0, misses=3)


def told(clock: FaultClock, by_s: float) -> list[tuple[float, str, int | None]]:
    """All that happens up to an instant, taken one instant after the other as a run does."""
    found = []
    while (next_s := clock.next_s) is not None and next_s <= by_s:
        found += [(each.at_s, each.moment.value, each.occurrence.device) for each in clock.take(next_s)]
    return found


def test_an_exit_is_noticed_at_once() -> None:
    crash = FaultEvent(Fault(FaultKind.CRASH, (4,)), at_s=2.5)
    assert told(clock(crash), 100.0) == [(2.5, "begins", 4), (2.5, "noticed", 4)]


def test_a_device_that_reboots_is_there_again() -> None:
    reboot = FaultEvent(Fault(FaultKind.REBOOT, (4,), for_s=30.0), at_s=2.5)
    assert told(clock(reboot), 100.0) == [(2.5, "begins", 4), (2.5, "noticed", 4), (32.5, "over", 4)]


@pytest.mark.parametrize(("began_s", "noticed_s"), [(2.5, 5.0), (2.0, 5.0), (2.999, 5.0), (0.0, 3.0)])
def test_a_hang_is_noticed_by_beats_that_do_not_come(began_s: float, noticed_s: float) -> None:
    """Beats come each second; the third in a row that is missing tells."""
    hang = FaultEvent(Fault(FaultKind.HANG, (1,)), at_s=began_s)
    assert told(clock(hang), 100.0) == [(began_s, "begins", 1), (noticed_s, "noticed", 1)]


def test_a_hang_that_is_over_before_is_not_noticed() -> None:
    hang = FaultEvent(Fault(FaultKind.HANG, (1,), for_s=2.4), at_s=2.5)
    assert told(clock(hang), 100.0) == [(2.5, "begins", 1), (4.9, "over", 1)]


def test_a_beat_at_the_instant_of_a_hang_is_answered() -> None:
    """Also where 0.3 / 0.1 is less than 3."""
    assert [noticed_s(began_s, 0.1, 3) for began_s in (0.25, 0.3, 0.31)] == [0.5, 0.6, 0.6]


def test_a_device_that_joins_was_absent() -> None:
    join = FaultEvent(Fault(FaultKind.JOIN, (3,)), at_s=7.0)
    assert FaultPlan((join,)).absent == {3}
    assert told(clock(join), 100.0) == [(7.0, "begins", 3), (7.0, "over", 3)]


def test_links_fail_together_and_devices_each_by_itself() -> None:
    down = FaultEvent(Fault(FaultKind.DOWN, links=LINK, for_s=9.0), at_s=1.0)
    hang = FaultEvent(Fault(FaultKind.CRASH, (1, 2)), at_s=1.5)
    assert told(clock(down, hang), 5.0) == [
        (1.0, "begins", None),
        *[(1.5, moment, device) for moment in ("begins", "noticed") for device in (1, 2)],
        (4.0, "noticed", None),
    ]


def test_a_fault_at_a_token_begins_when_the_run_knows_when_that_is() -> None:
    at_token = FaultEvent(Fault(FaultKind.CRASH, (1,)), at_token=3)
    made = clock(at_token)
    assert made.next_s is None
    (fault,) = FaultPlan((at_token,)).at(3)
    made.add(fault, 4.25)
    assert told(made, 100.0)[0] == (4.25, "begins", 1)


@given(st.floats(1e-4, 10.0), st.floats(0.1, 50.0), st.integers(0, 9))
def test_random_faults_follow_each_other_and_are_the_same_whoever_asks(rate: float, for_s: float, seed: int) -> None:
    process = RandomFaults(Fault(FaultKind.REBOOT, (2,), for_s=for_s), rate, seed)
    (first, again) = (told(clock(random=(process,)), 10.0 / rate) for _ in range(2))
    assert first == again
    begins = [at_s for at_s, moment, _ in first if moment == Moment.BEGINS.value]
    waits = list(islice(process.waits_s(), len(begins)))
    for number, (one, following) in enumerate(pairwise(begins)):
        assert following == pytest.approx(one + for_s + waits[number + 1])
