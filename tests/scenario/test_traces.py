"""Files that a scenario names: one reader with one guard, times since 1970, outages, and the place of every mistake."""

import bz2
import contextlib
import gzip
import lzma
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.cluster.variation import Trace
from edgeemu.errors import RequestError
from edgeemu.scenario.load import load_scenario, parse_scenario
from edgeemu.scenario.scenario import Scenario

SCENARIO = """
model:
  shape: {n_layers: 1, d_model: 8, n_heads: 2, n_kv_heads: 1, head_dim: 4, d_ff: 8, vocab_size: 9, max_context: 9}
devices: [{name: pi, count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 1 GiB}]
network: {default: {bandwidth: 10 Mbit/s, delay: 2 ms, bandwidth_trace: rates.csv}}
workload: {prompts: [{tokens: 3}, {tokens: 2}], max_tokens: 4, arrivals: {trace: at.txt}}
"""

MANY = "".join(f"{n},1 Mbit/s\n" for n in range(100_005))


def scenario(directory: Path, rates: str | bytes = "0,1 Mbit/s", arrivals: str | bytes = "0\n1\n") -> Scenario:
    for name, content in [("rates.csv", rates), ("at.txt", arrivals)]:
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return parse_scenario(SCENARIO, "s", base=directory)


def error(directory: Path, rates: str | bytes = "0,1 Mbit/s", arrivals: str | bytes = "0\n1\n") -> str:
    with pytest.raises(RequestError) as caught:
        scenario(directory, rates, arrivals)
    return str(caught.value).partition(": ")[2]


def rates_of(made: Scenario) -> dict[float, float]:
    varies = draw(made).path(0, 1).hops[0].varies
    assert varies is not None
    assert isinstance(varies.rate, Trace)
    return {at_s: round(share * 10e6) for at_s, share in zip(varies.rate.times_s, varies.rate.levels, strict=True)}


@pytest.mark.parametrize(
    "rates",
    [
        "time [s],rate [Mbit/s]\n0,50\n0.25,0.5\n2.25,4",
        "\ufefftime [s],rate [Mbit/s]\r\n0,50\r\n0.25,0.5\r\n2.25,4\r\n",
        "0,50 Mbit/s\r0.25,500 kbit/s\r2.25,4e6 bit/s",
        "time [s],rate [Mbit/s]\n1700000000.5,50\n1700000000.75,0.5\n1700000002.75,4",
        "time,rate [kbit/s]\n1700000000500,5e4\n1700000000750,5e2\n1700000002750,4e3",
        "t [ms],rate [Mbit/s]\n1700000000500,50\n1700000000750,0.5\n1700000002750,4",
        "t,rate [Mbit/s]\n1700000000500000000,50\n1700000000750000000,.5\n1700000002750000000,4.",
        ",4G rate [Mbit/s]\n0,50\n0.25,0.5\n2.25,4",
        '# measured\n"time [s]","rate"\n0,50 Mbit/s\n2.5e-1,.5Mbps\n2.25,4 Mb/s',
    ],
)  # fmt: skip
def test_many_ways_to_write_one_trace(tmp_path: Path, rates: str) -> None:
    assert rates_of(scenario(tmp_path, rates)) == {0.0: 50e6, 0.25: 0.5e6, 2.25: 4e6}


def test_an_outage_lets_nothing_pass_and_then_all(tmp_path: Path) -> None:
    made = scenario(tmp_path, "time [s],rate [Mbit/s]\n0,8\n1,0\n79,8\n")
    path = draw(made).path(0, 1)
    assert path.hops[0].passed_s(0.5, 8e3) == pytest.approx(0.501)
    assert path.hops[0].passed_s(1.0, 8.0) == pytest.approx(79.000001)
    assert path.hops[0].passed_s(0.9995, 8e3) == pytest.approx(79.0005)
    assert path.bandwidth_at(10.0) > 0
    assert draw(resolve(made)) == draw(made)


def test_an_outage_that_never_ends_is_a_millionth_of_the_rate(tmp_path: Path) -> None:
    path = draw(scenario(tmp_path, "0,8 Mbit/s\n1,0 Mbit/s\n")).path(0, 1)
    assert path.hops[0].passed_s(1.0, 100.0) == pytest.approx(11.0)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ("", "rates.csv: has no values"),
        ("time,rate\n\n", "rates.csv: has no values"),
        ("time [s],rate [MB/s]\n0,100\n", 'rates.csv:2: "100 MB/s" is not a bit rate (did you mean "800 Mbit/s"?)'),
        ("0,0\n1,0\n", "has no rate above zero: nothing would ever arrive"),
        ("nan,9 Mbit/s\n1,5 Mbit/s\n", 'rates.csv:1: "nan s" is not a duration (write e.g. "25 ms")'),
        (",9 Mbit/s\n1,5 Mbit/s\n", 'rates.csv:1: "" is not a duration (write e.g. "25 ms")'),
        ("now,nan Mbit/s\n1,5 Mbit/s\n", 'rates.csv:1: "now" is not a duration (write e.g. "25 ms")'),
        ("0,nan\n", 'rates.csv:1: "nan" is not a bit rate (write e.g. "100 Mbit/s")'),
        ("t,r [Mbit/s]\n0,inf\n", 'rates.csv:2: "inf Mbit/s" is not a bit rate (write e.g. "100 Mbit/s")'),
        ("t,r [Mbit/s]\n0,-5\n", 'rates.csv:2: "-5 Mbit/s" is negative; a bit rate cannot be'),
        ("-1,5 Mbit/s\n", 'rates.csv:1: "-1 s" is negative; a duration cannot be'),
        ("0,5 Mbit/s\n1e999,5 Mbit/s\n", 'rates.csv:2: "1e999 s" is too large'),
        ("0,5 Mbit/s\n1e9999,5 Mbit/s\n", 'rates.csv:2: "1e9999 s" is not a duration (write e.g. "25 ms")'),
        ("1e999000000,5 Mbit/s\n", 'rates.csv:1: "1e999000000 s" is not a duration (write e.g. "25 ms")'),
        ("9" * 5000 + ",5 Mbit/s\n", f'rates.csv:1: "{"9" * 40}…" is not a duration (too long)'),
        ("0,1 Mbit/s\n1,1 Mbit/s\n1,2 Mbit/s\n", "rates.csv:3: 1 is not later than the line before"),
        ("1700000001,1 Mbit/s\n1700000000,1 Mbit/s\n", "rates.csv:2: 1700000000 is not later than the line before"),
        (",".join(["1"] * 5000), "rates.csv:1: has 5000 columns; a trace has two, time and value"),
        ("0;5 Mbit/s\n", "rates.csv:1: has 1 column; a trace has two, time and value with a comma between them"),
        ('0,"5 Mbit/s\n', "rates.csv:1: cannot be read as CSV: unexpected end of data"),
        ('0,"' + "1" * 200_000, "rates.csv:1: cannot be read as CSV: field larger than field limit (131072)"),
        ("\n" * 400_002, "rates.csv: has more than 400,000 lines"),
        (MANY, "rates.csv:100002: has more than 100,000 values; take fewer, each holds until the next"),
        ("0,1 Mbit/s\n1,\x1b[31m Mbit/s\n", "rates.csv:2: has the control character U+001B"),
        (b"0,1 Mbit/s\n\xff\n", "rates.csv:2: is not text in UTF-8"),
        ("0,1 Mbit/s\n".encode("utf-16"), "rates.csv: is text in UTF-16; save it in UTF-8"),
        ("0,1 Mbit/s\n".encode("utf-32"), "rates.csv: is text in UTF-32; save it in UTF-8"),
        (gzip.compress(b"0,1 Mbit/s\n", mtime=0), "rates.csv: is compressed with gzip; unpack it (gunzip)"),
        (bz2.compress(b"0,1 Mbit/s\n"), "rates.csv: is compressed with bzip2; unpack it (bunzip2)"),
        (lzma.compress(b"0,1 Mbit/s\n"), "rates.csv: is compressed with xz; unpack it (unxz)"),
        (b"PK\x03\x04\n\0", "rates.csv: is a ZIP archive; unpack it (unzip)"),
        (b"PAR1\x15\x04", "rates.csv: is a Parquet file; save it as text"),
        ("0,1 Mbit/s\n".encode("utf-16-le"), "rates.csv:1: has the control character U+0000"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_answered_with_its_line(tmp_path: Path, rates: str | bytes, message: str) -> None:
    assert error(tmp_path, rates) == f"network.default.bandwidth_trace: {message}"


@pytest.mark.parametrize(
    "arrivals",
    [
        "0.25\n0.75\n",
        "\ufeff# times\n2.500000000000000000e-01\r\n7.500000000000000000e-01\r\n",
        "250 ms\n.75\n",
        "0.25s\n0.75 s\n",
    ],
)
def test_many_ways_to_write_arrivals(tmp_path: Path, arrivals: str) -> None:
    made = scenario(tmp_path, arrivals=arrivals).workload.arrivals
    assert made.trace == pytest.approx((0.25, 0.75))  # type: ignore[union-attr]


def test_arrivals_since_1970_are_counted_from_the_first(tmp_path: Path) -> None:
    made = scenario(tmp_path, arrivals="1700000000.5\n1700000003\n").workload.arrivals
    assert made.trace == (0.0, 2.5)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arrivals", "message"),
    [
        ("", "at.txt: has no instants"),
        ("0\nsoon\n", 'at.txt:2: "soon" is not a duration (write e.g. "25 ms")'),
        ("1\n\n0.5\n", "at.txt:3: 0.5 is earlier than the line before"),
        ("0\nnan\n", 'at.txt:2: "nan s" is not a duration (write e.g. "25 ms")'),
        ("0.0,120,16\n", 'at.txt:1: "0.0,120,16" is not a duration (write e.g. "25 ms")'),
        ("1" * 100_000 + "x\n", f'at.txt:1: "{"1" * 40}…" is not a duration (too long)'),
        ("0\n" * 100_001, "at.txt:100001: has more than 100,000 instants"),
    ],
)
def test_a_mistake_in_arrivals_is_answered_with_its_line(tmp_path: Path, arrivals: str, message: str) -> None:
    assert error(tmp_path, arrivals=arrivals) == f"workload.arrivals.trace: {message}"


@QUICK
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=2).map(sorted), st.sampled_from(["{!r}", "{:.18e}", "{!r} s"]))
def test_arrivals_are_read_exactly_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, at_s: list[float], form: str
) -> None:
    directory = tmp_path_factory.mktemp("arrivals")
    made = scenario(directory, arrivals="\n".join(form.format(each) for each in at_s)).workload.arrivals
    assert made.trace == tuple(at_s)  # type: ignore[union-attr]


@QUICK
@given(
    st.binary(max_size=60)
    | st.text("0123456789,.;e-+ []#\nsMkbit/\t\"'\ufeff", max_size=60).map(str.encode)
    | st.lists(
        st.sampled_from(['{"', "prompt", "tokens", '": ', '"', "5", "1e9", "-1", "NaN", "[", "]", "}", ",", "\n"])
    )
    .map("".join)
    .map(str.encode)
)
def test_no_file_is_anything_but_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    directory = tmp_path_factory.mktemp("files")
    for rates, arrivals in [(content, b"0\n1\n"), (b"0,1 Mbit/s\n", content)]:
        with contextlib.suppress(RequestError):
            scenario(directory, rates, arrivals)
    for name in ("x.up", "x.txt", "x.jsonl"):
        (directory / name).write_bytes(content)
        place, field = ("rates.csv", name) if name == "x.up" else ("[{tokens: 3}, {tokens: 2}]", name)
        with contextlib.suppress(RequestError):
            parse_scenario(SCENARIO.replace(place, field), "s", base=directory)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "at.txt").write_text("0\n1\n")
    for name, what in [("pipe", "a pipe"), ("folder", "a directory"), ("/dev/zero", "a device")]:
        with pytest.raises(RequestError, match=f'"{name}" is {what}, not a file'):
            parse_scenario(SCENARIO.replace("rates.csv", name), base=tmp_path)
        with pytest.raises(RequestError, match=f"is {what}, not a file"):
            load_scenario(tmp_path / name)
    for name in ["x" * 5000, "~nobody-of-that-name/x.csv", '"\\0"']:
        with pytest.raises(RequestError, match=r"bandwidth_trace: .*(is no path|there is no file)"):
            parse_scenario(SCENARIO.replace("rates.csv", name), base=tmp_path)


def test_a_scenario_is_read_by_the_same_rules(tmp_path: Path) -> None:
    (tmp_path / "at.txt").write_text("0\n1\n")
    (tmp_path / "rates.csv").write_text("0,1 Mbit/s\n")
    (tmp_path / "s.yaml").write_bytes(b"\xef\xbb\xbf" + SCENARIO.replace("\n", "\r\n").encode())
    assert load_scenario(tmp_path / "s.yaml").name == "s"
    (tmp_path / "s.yaml").write_bytes(SCENARIO.encode("utf-16"))
    with pytest.raises(RequestError, match=r"s\.yaml: is text in UTF-16; save it in UTF-8"):
        load_scenario(tmp_path / "s.yaml")
    (tmp_path / "s.yaml").write_bytes(b"model: gpt2\n\xe9\n")
    with pytest.raises(RequestError, match=r"s\.yaml:2: is not text in UTF-8"):
        load_scenario(tmp_path / "s.yaml")
