"""Packet-delivery traces: what a file of them may have, and their mean rates, over and over."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.cluster.link_variation import DELIVERY_BITS, mean_rates
from edgeemu.cluster.variation import Repeated, Trace, done_s
from edgeemu.errors import RequestError
from edgeemu.scenario import mahimahi
from edgeemu.scenario.load import parse_scenario
from edgeemu.scenario.scenario import Scenario
from edgeemu.scenario.traces import PacketTrace

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


def packed(*instants_ms: int) -> bytes:
    return mahimahi.packed_instants(" ".join(map(str, instants_ms)))


def points(*instants_ms: int) -> list[tuple[float, float]]:
    rates = mean_rates(packed(*instants_ms), 1.0)
    trace = rates.trace if isinstance(rates, Repeated) else rates
    assert isinstance(trace, Trace)
    return list(zip(trace.times_s, trace.levels, strict=True))


def test_a_packet_every_millisecond_is_12_mbit_per_second() -> None:
    assert points(1) == [(0.0, 12e6)]
    assert points(*range(1, 1001)) == [(0.0, 12e6)]


def test_mean_rates_are_what_is_delivered_in_each_100_ms() -> None:
    assert points(0, 100, 100, 101, 350) == [(0.0, 360e3), (0.1, 120e3), (0.2, 1e3), (0.3, 240e3)]


@QUICK
@given(st.lists(st.integers(0, 900), min_size=1).map(sorted).filter(lambda times: times[-1] > 0))
def test_mean_rates_have_as_many_bits_as_the_packets(times_ms: list[int]) -> None:
    found = points(*times_ms)
    ends_s = [*(at_s for at_s, _ in found[1:]), times_ms[-1] / 1e3]
    bits = sum((until_s - at_s) * rate for (at_s, rate), until_s in zip(found, ends_s, strict=True) if rate > 1e3)
    assert bits == pytest.approx(len(times_ms) * DELIVERY_BITS)


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        ("1\n2.5\n", 'lte.up:2: "2.5" is not a whole number of milliseconds'),
        ("5\n4\n", "lte.up:2: 4 is earlier than the one before"),
        ("0\n", "lte.up: has no instant after 0"),
        ("", "lte.up: has no instant after 0"),
        ("1700000000000\n", "lte.up: has no instant after the first"),
        ("1\n1700000000000\n", "lte.up:2: 1700000000000 is more than 49 days after the beginning of the trace"),
        ("1700000000\n1700000001\n", "lte.up:1: 1700000000 looks like seconds since 1970"),
        ("1" * 30, 'lte.up:1: "' + "1" * 30 + '" is not a whole number of milliseconds'),
        ("5\n" * 901, "lte.up:901: has more than 900 packets in one millisecond"),
        ("7\n\x00\n", r"lte.up:2: has the control character U\+0000"),
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


def test_instants_since_1970_are_counted_from_the_first(tmp_path: Path) -> None:
    made = scenario(tmp_path, "1700000000000\n1700000000050\n1700000000100\n")
    assert made.network.default is not None
    assert made.network.default.bandwidth_trace == PacketTrace(packets=packed(0, 50, 100))


@pytest.mark.parametrize("suffix", ["up", "down", "pps", "mahimahi", "PPS"])
def test_every_suffix_of_such_traces_is_known(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"cell.{suffix}").write_text("\ufeff2\r\n4\r\n")
    made = parse_scenario(SCENARIO.replace("lte.up", f"cell.{suffix}"), base=tmp_path)
    assert made.network.default is not None
    assert made.network.default.bandwidth_trace == PacketTrace(packets=packed(2, 4))


def test_a_file_of_one_column_says_what_a_mahimahi_trace_is_named(tmp_path: Path) -> None:
    (tmp_path / "cell.txt").write_text("2\n4\n")
    with pytest.raises(RequestError, match=r"cell.txt:1: has 1 column; .*its name ends in .up, .down, .pps, .mahimahi"):
        parse_scenario(SCENARIO.replace("lte.up", "cell.txt"), base=tmp_path)


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
