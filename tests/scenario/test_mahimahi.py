"""Packet-delivery traces become rates: as many bits as their packets, over and over, in every kind of run."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.cluster.variation import Repeated, Trace, done_s
from edgeemu.errors import RequestError
from edgeemu.scenario import mahimahi
from edgeemu.scenario.load import parse_scenario
from edgeemu.scenario.scenario import Scenario

SCENARIO = """
model:
  shape: {n_layers: 1, d_model: 8, n_heads: 2, n_kv_heads: 1, head_dim: 4, d_ff: 8, vocab_size: 9, max_context: 9}
devices: [{name: pi, count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 1 GiB}]
network: {default: {bandwidth: 12 Mbit/s, delay: 2 ms, bandwidth_trace: lte.up}}
workload: {prompts: [{tokens: 3}], max_tokens: 4}
"""


def scenario(directory: Path, trace: str) -> Scenario:
    (directory / "lte.up").write_text(trace)
    return parse_scenario(SCENARIO, base=directory)


def test_a_packet_every_millisecond_is_12_mbit_per_second() -> None:
    assert mahimahi.rates(["1"], "t.up") == ([(0, 12e6)], 1)
    assert mahimahi.rates([str(n) for n in range(1, 1001)], "t.up") == ([(0, 12e6)], 1000)


def test_rates_are_what_is_delivered_in_each_100_ms() -> None:
    lines = ["# made by hand", "0", "100", "100", "101", "", "350"]
    assert mahimahi.rates(lines, "t.up") == ([(0, 360e3), (100, 120e3), (200, 1e3), (300, 240e3)], 350)


@QUICK
@given(st.lists(st.integers(0, 900), min_size=1).map(sorted).filter(lambda times: times[-1] > 0))
def test_as_many_bits_pass_as_the_packets_have(times_ms: list[int]) -> None:
    points, end_ms = mahimahi.rates(map(str, times_ms), "t.up")
    ends_ms = [*(at_ms for at_ms, _ in points[1:]), end_ms]
    bits = sum(
        (until_ms - at_ms) / 1e3 * rate for (at_ms, rate), until_ms in zip(points, ends_ms, strict=True) if rate > 1e3
    )
    assert bits == pytest.approx(len(times_ms) * mahimahi.PACKET_BITS)


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        ("1\n2.5\n", 'lte.up:2: "2.5" is not a whole number of milliseconds'),
        ("5\n4\n", "lte.up:2: 4 is earlier than the line before"),
        ("0\n", "lte.up: has no instant after 0"),
    ],
)
def test_what_is_no_such_trace_is_refused_with_its_line(tmp_path: Path, trace: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        scenario(tmp_path, trace)


def test_a_scenario_follows_it_again_and_again(tmp_path: Path) -> None:
    lines = [*range(1, 101), *range(102, 201, 2)]  # 12 Mbit/s, then 6
    made = scenario(tmp_path, "\n".join(map(str, lines)))
    path = draw(made).path(0, 1)
    assert [path.bandwidth_at(t_s) for t_s in (0.05, 0.15, 0.25, 7.35)] == [12e6, 6e6, 12e6, 6e6]
    (tmp_path / "lte.up").unlink()
    assert draw(resolve(made)) == draw(made)


def test_a_trace_that_never_changes_is_one_point(tmp_path: Path) -> None:
    path = draw(scenario(tmp_path, "2\n")).path(0, 1)
    assert path.hops[0].varies is not None
    assert path.hops[0].varies.rate == Trace((0.0,), (0.5,))


@pytest.mark.parametrize("points", ["[[0 s, repeat]]", "[[0 s, 1 Mbit/s], [1 s, repeat], [2 s, 1 Mbit/s]]"])
def test_only_the_end_repeats(points: str) -> None:
    with pytest.raises(RequestError, match=r"bandwidth_trace\[.\]\[1\]: repeat is for the end"):
        parse_scenario(SCENARIO.replace("lte.up", points))


@QUICK
@given(st.floats(0, 1e4), st.floats(0.05, 3.0), st.lists(st.floats(0.1, 2.0), min_size=1, max_size=5))
def test_every_piece_ends_later_than_it_is_asked_for(t_s: float, period_s: float, levels: list[float]) -> None:
    trace = Trace(tuple(0.01 * n for n in range(len(levels))), tuple(levels))
    repeated = Repeated(trace, period_s)
    for _ in range(20):
        level, until_s = repeated.piece(t_s)
        assert until_s > t_s
        assert level in levels
        t_s = until_s


def test_every_period_has_as_much_as_the_trace() -> None:
    repeated = Repeated(Trace((0.0, 0.3), (1.0, 0.5)), 0.7)
    assert done_s(repeated, 0.0, 70.0) == pytest.approx(100 * (0.3 + 0.2))
