"""The arithmetic of time: what a device, a pipe and a lossy link make of a message."""

from collections import defaultdict
from fractions import Fraction
from math import comb
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Hop, Path
from edgeemu.placement.work import Work, roofline_s
from edgeemu.timeline.clock import WallClock, occupy
from edgeemu.timeline.network import DrawKey, disturbance_s, serialise, uniforms
from edgeemu.timeline.ready_queue import ReadyQueue, Waiting
from edgeemu.timeline.retransmission import lost_packets

RATE_BPS = 8_000.0  # 1000 bytes a second: a message of 1000 bytes takes a second
times = st.floats(0, 100)
sizes = st.integers(1, 100_000)


def one_pipe(pipe: int = 0, delay_s: float = 0.0, bandwidth_bps: float = RATE_BPS) -> Path:
    return Path((Hop(pipe, bandwidth_bps, delay_s),), 0.0, 0.0)


# -- devices and clocks ---------------------------------------------------------------------------------------------


@QUICK
@given(times, times, times)
def test_a_device_starts_when_it_is_free_and_the_inputs_are_there(free: float, ready: float, takes: float) -> None:
    when = occupy(free, ready, takes)
    assert when.ready_s == ready
    assert when.start_s == max(free, ready)
    assert when.end_s == when.start_s + takes


def test_the_roofline_is_the_slower_of_arithmetic_and_memory_and_the_overhead() -> None:
    device = Compute(flops_per_s=100.0, mem_bytes_per_s=10.0, overhead_s=0.5)
    assert roofline_s(device, Work(1000, 20)) == 10.5
    assert roofline_s(device, Work(1000, 200)) == 20.5
    assert roofline_s(device, Work(0, 0)) == 0.5


@QUICK
@given(times, st.floats(1, 50), times)
def test_the_wall_clock_follows_the_timeline_and_back(start: float, dilation: float, emulated: float) -> None:
    clock = WallClock(start, dilation)
    assert clock.wall_s(0.0) == start
    assert clock.wall_s(emulated) == start + dilation * emulated
    assert clock.emulated_s(clock.wall_s(emulated)) == pytest.approx(emulated, abs=1e-9)


# -- pipes ----------------------------------------------------------------------------------------------------------


@QUICK
@given(st.lists(st.tuples(times, sizes), min_size=1, max_size=20))
def test_a_pipe_serves_first_come_first_served_and_never_idles_with_work(sent: list[tuple[float, int]]) -> None:
    free = defaultdict[int, float](float)
    free_s = 0.0
    for departure_s, size_bytes in sorted(sent):
        free_s = max(free_s, departure_s) + size_bytes / 1000
        assert serialise(free, one_pipe(delay_s=0.25), size_bytes, departure_s) == pytest.approx(free_s + 0.25)
        assert free[0] == pytest.approx(free_s)


@QUICK
@given(st.integers(1, 5), sizes, times)
def test_pipes_of_equal_rate_add_their_delays_only(n_pipes: int, size_bytes: int, departure_s: float) -> None:
    path = Path(tuple(Hop(pipe, RATE_BPS, 0.5) for pipe in range(n_pipes)), 0.0, 0.0)
    arrival_s = serialise(defaultdict(float), path, size_bytes, departure_s)
    assert arrival_s == pytest.approx(departure_s + size_bytes / 1000 + 0.5 * n_pipes)


@QUICK
@given(st.permutations([1_000.0, 4_000.0, 2_000.0]), sizes)
def test_the_slowest_pipe_sets_the_rate_wherever_it_lies(rates: list[float], size_bytes: int) -> None:
    path = Path(tuple(Hop(pipe, rate, 0.0) for pipe, rate in enumerate(rates)), 0.0, 0.0)
    assert serialise(defaultdict(float), path, size_bytes, 0.0) == pytest.approx(8 * size_bytes / 1_000)


def test_a_message_that_crosses_the_air_twice_is_transmitted_twice() -> None:
    air = Path((Hop(0, RATE_BPS, 0.0), Hop(0, RATE_BPS / 2, 0.0)), 0.0, 0.0)
    free = defaultdict[int, float](float)
    assert serialise(free, air, 1000, 0.0) == 1.0 + 2.0
    assert serialise(free, air, 1000, 0.0) == 6.0
    assert free[0] == 6.0


def test_air_is_not_held_while_a_message_waits_for_its_delay() -> None:
    """Four messages of a second each way through an access point that takes 10 s: the air is busy 8 s, not 44."""
    air = Path((Hop(0, RATE_BPS, 10.0), Hop(0, RATE_BPS, 10.0)), 0.0, 0.0)
    free = defaultdict[int, float](float)
    assert [serialise(free, air, 1000, 0.0) for _ in range(4)] == [22.0, 24.0, 26.0, 28.0]
    assert free[0] == 8.0


def test_a_message_from_afar_does_not_hold_a_pipe_before_it_comes() -> None:
    free = defaultdict[int, float](float)
    far = Path((Hop(1, RATE_BPS, 60.0), Hop(0, RATE_BPS, 0.0)), 0.0, 0.0)
    assert serialise(free, far, 1000, 0.0) == 61.0
    assert serialise(free, one_pipe(0), 1000, 5.0) == 6.0


def test_a_slow_pipe_does_not_hold_the_fast_one_behind_it() -> None:
    """A device's 1 Mbit/s interface takes in a message from a slow link at the link's rate, and others meanwhile."""
    free = defaultdict[int, float](float)
    behind_slow = Path((Hop(1, RATE_BPS, 0.0), Hop(0, 1e6, 0.0)), 0.0, 0.0)
    assert serialise(free, behind_slow, 100_000, 0.0) == 100.0
    assert free[0] == pytest.approx(0.8)
    assert serialise(free, Path((Hop(2, 1e6, 0.0), Hop(0, 1e6, 0.0)), 0.0, 0.0), 125, 2.0) == pytest.approx(2.001)


hops = st.tuples(st.integers(0, 3), st.sampled_from((1_000.0, 8_000.0, 1e6)), st.floats(0, 2))
paths = st.lists(hops, min_size=1, max_size=4).map(lambda found: Path(tuple(Hop(*hop) for hop in found), 0.0, 0.0))


@QUICK
@given(st.lists(st.tuples(times, sizes, paths), min_size=1, max_size=15))
def test_no_message_is_faster_than_alone_and_no_pipe_than_its_rate(sent: list[tuple[float, int, Path]]) -> None:
    free = defaultdict[int, float](float)
    work_s = defaultdict[int, float](float)
    last: dict[Path, float] = {}
    ordered = sorted(sent, key=lambda message: message[0])
    for departure_s, size_bytes, path in ordered:
        alone_s = serialise(defaultdict(float), path, size_bytes, departure_s)
        arrival_s = serialise(free, path, size_bytes, departure_s)
        assert alone_s >= departure_s + 8 * size_bytes / path.bandwidth_bps + path.delay_s - 1e-9
        assert arrival_s >= alone_s - 1e-9
        assert arrival_s >= last.get(path, 0.0)  # the same way: in order
        last[path] = arrival_s
        for hop in path.hops:
            work_s[hop.pipe] += 8 * size_bytes / hop.bandwidth_bps
    for pipe, booked_s in work_s.items():
        assert free[pipe] >= booked_s - 1e-6
        assert free[pipe] <= ordered[-1][0] + sum(work_s.values()) + 1e-6


# -- chance ---------------------------------------------------------------------------------------------------------

numbers = st.integers(-(2**62), 2**62)
UNIFORMS_OF_SEED_7 = (0.13157656579462573, 0.10096391759071066)
keys = st.builds(DrawKey, numbers, numbers, numbers, numbers, numbers, numbers)


@QUICK
@given(numbers, keys, st.sampled_from(DrawKey._fields))
def test_draws_depend_on_the_seed_and_every_part_of_the_key(seed: int, key: DrawKey, changed: str) -> None:
    drawn = uniforms(seed, key)
    assert len(set(drawn)) == 8
    assert all(0 <= number < 1 for number in drawn)
    assert uniforms(seed, DrawKey(*key)) == drawn
    assert uniforms(seed + 1, key) != drawn
    assert uniforms(seed, key._replace(**{changed: getattr(key, changed) + 1})) != drawn


def test_draws_are_uniform_and_the_same_everywhere() -> None:
    drawn = [number for step in range(1000) for number in uniforms(1, DrawKey(0, 1, 0, step, 2, 3))]
    for tenth in range(10):
        assert sum(tenth <= 10 * number < tenth + 1 for number in drawn) == pytest.approx(800, abs=100)
    # A run elsewhere must draw this too: the figures are those of BLAKE2b, not of a library's generator.
    assert uniforms(7, DrawKey(0, 1, 2, 3, 4, 5))[:2] == pytest.approx(UNIFORMS_OF_SEED_7, abs=1e-15)


def cumulative(packets: int, loss: float, lost: int) -> Fraction:
    """The chance that at most `lost` of `packets` are lost, exactly."""
    p = Fraction(loss)
    return sum((comb(packets, k) * p**k * (1 - p) ** (packets - k) for k in range(lost + 1)), Fraction(0))


@QUICK
@given(st.integers(1, 40), st.floats(0.001, 0.999), st.floats(0, 1, exclude_max=True))
def test_lost_packets_are_the_binomial_quantile(packets: int, loss: float, uniform: float) -> None:
    lost = lost_packets(packets, loss, uniform)
    assert 0 <= lost <= packets
    assert cumulative(packets, loss, lost) >= uniform - 1e-9
    if lost:
        assert cumulative(packets, loss, lost - 1) <= uniform + 1e-9


@pytest.mark.parametrize(("packets", "loss"), [(1, 0.01), (3, 0.5), (3, 0.7), (100, 0.1), (1000, 0.19), (180, 0.985)])
def test_on_average_as_many_are_lost_as_the_rate_says(packets: int, loss: float) -> None:
    draws = 2000
    mean = fmean(lost_packets(packets, loss, (i + 0.5) / draws) for i in range(draws))
    assert mean == pytest.approx(packets * loss, rel=0.01)


def test_of_very_many_packets_the_mean_is_lost() -> None:
    assert {lost_packets(100_000, 0.01, uniform) for uniform in (0.0, 0.5, 0.999)} == {1000}
    assert {lost_packets(100_000, 0.99, uniform) for uniform in (0.0, 0.5, 0.999)} == {99_000}


@QUICK
@given(keys, sizes, times)
def test_an_undisturbed_link_adds_nothing(key: DrawKey, size_bytes: int, delay_s: float) -> None:
    assert disturbance_s(one_pipe(delay_s=delay_s), size_bytes, 3, key) == 0.0


@QUICK
@given(keys, sizes, st.floats(0, 0.1), st.floats(1e-6, 0.1))
def test_jitter_stays_within_its_half_width_and_after_departure(
    key: DrawKey, size_bytes: int, delay_s: float, jitter_s: float
) -> None:
    path = Path((Hop(0, RATE_BPS, delay_s),), jitter_s, 0.0)
    assert -min(jitter_s, delay_s) <= disturbance_s(path, size_bytes, 3, key) <= jitter_s


def test_jitter_above_the_delay_counts_up_to_it_so_that_the_mean_stays() -> None:
    path = Path((Hop(0, RATE_BPS, 0.02),), 0.03, 0.0)
    extra_s = [disturbance_s(path, 100, 0, DrawKey(0, 1, 0, step, 0, 0)) for step in range(4000)]
    assert fmean(extra_s) == pytest.approx(0.0, abs=6e-4)  # cut at zero, the mean would be 1.7 ms
    assert min(extra_s) >= -0.02


def test_jitter_is_symmetric_and_uniform() -> None:
    path = Path((Hop(0, RATE_BPS, 1.0),), 0.5, 0.0)
    extra_s = sorted(disturbance_s(path, 100, 0, DrawKey(0, 1, 0, step, 0, 0)) for step in range(2000))
    assert fmean(extra_s) == pytest.approx(0.0, abs=0.02)
    assert extra_s[500] == pytest.approx(-0.25, abs=0.03)
    assert extra_s[1500] == pytest.approx(0.25, abs=0.03)


def test_a_device_goes_on_with_the_step_that_it_is_at() -> None:
    """Two steps come one after the other; the first goes through all of its operations before the second begins."""
    queue: ReadyQueue[str] = ReadyQueue()
    queue.push(Waiting(1.0, 7, 3, 0), "first")
    queue.push(Waiting(1.5, 2, 9, 0), "other")
    ran = []
    for step in range(3):
        ran.append(queue.pop()[1])
        if step < 2:
            queue.push(Waiting(2.0 + step, 7, 3, step + 1), f"then {step}")
    assert ran == ["first", "then 0", "then 1"]
    assert queue.pop()[1] == "other"
    assert not queue


@QUICK
@given(st.lists(st.tuples(st.floats(0, 9), st.integers(0, 2), st.integers(0, 1), st.integers(0, 5)), min_size=1))
def test_what_is_ready_is_run_once_and_the_oldest_of_others_first(entries: list[tuple[float, int, int, int]]) -> None:
    queue: ReadyQueue[int] = ReadyQueue()
    for number, entry in enumerate(entries):
        queue.push(Waiting(*entry), number)
    seen, last = [], None
    while queue:
        waiting, number = queue.pop()
        rest = [Waiting(*entries[n]) for n in range(len(entries)) if n not in seen]
        same = [other for other in rest if (other.sequence, other.step) == last]
        assert waiting == min(same or rest)
        seen.append(number)
        last = waiting.sequence, waiting.step
    assert sorted(seen) == list(range(len(entries)))
