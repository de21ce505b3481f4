"""Changes over time in a scenario: mistakes, the cluster that is made, and the resolved scenario."""
# ruff: noqa: E501  # one mistake and its message a line

from pathlib import Path

import pytest

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.cluster.variation import MIN_SHARE, value
from edgeemu.errors import RequestError
from edgeemu.scenario.load import load_scenario, parse_scenario, to_yaml
from edgeemu.scenario.reference import scenario_json_schema

TEXT = """\
model:
  shape: {n_layers: 1, d_model: 8, n_heads: 2, n_kv_heads: 1, head_dim: 4, d_ff: 8, vocab_size: 9, max_context: 9}
devices:
  - {name: pi, count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 512 MiB, load: {walk: {mean: 20 %, spread: 10 %}, every: 100 ms}, memory_load: 10 %}
  - {name: hot, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 1 GiB, load: {trace: load.csv}, throttle: {after: 10 s, to: 60 %, over: 5 s}}
network:
  default: {bandwidth: 100 Mbit/s, delay: 2 ms, variation: {bandwidth: {uniform: {low: 50 %, high: 100 %}, every: 50 ms}}}
  links:
    - {between: [pi, hot], bandwidth: 10 Mbit/s, delay: 25 ms}
    - {from: pi-1, to: pi-2, bandwidth_trace: [[0 s, 5 Mbit/s], [2 s, 1 Mbit/s]], variation: {delay: 3 ms}}
events:
  - {at: 2 s, device: pi, speed: 33 %}
  - {at: 3 s, link: [pi, hot], bandwidth: 5 Mbit/s, delay: 20 ms}
  - {at_token: 4, device: hot, memory: 64 MiB}
knowledge: oracle
decisions: {interval: 2, time: 1 ms}
migration: {mode: precopy, weights_on_flash: true, flash_bandwidth: 80 MB/s, chunk: 32 KiB}
workload: {prompts: [{tokens: 3}]}
"""
LOAD = "time [ms],load\n0,10 %\n# lunch\n1500,0.5\n2 s,20 %\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "load.csv").write_text(LOAD)
    return tmp_path


def error(directory: Path, text: str) -> str:
    with pytest.raises(RequestError) as caught:
        parse_scenario(text, "s", base=directory)
    return str(caught.value)


def cluster(directory: Path, text: str = TEXT) -> Cluster:
    return draw(parse_scenario(text, "s", base=directory))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("memory_load: 10 %", "memory_load: 110 %", ':4: devices[0].memory_load: "110 %" must be at most 1'),
        ("mean: 20 %", "mean: 20 ms", ':4: devices[0].load.walk.mean: "20 ms" is not a fraction (write e.g. "1 %")'),
        ("walk: {mean", "wlak: {mean", ':4: devices[0].load.wlak: unknown key "wlak" (did you mean "walk"?)'),
        (", every: 100 ms}", "}", ":4: devices[0].load.every: is missing (the step after which the value is sampled again)"),
        ("every: 100 ms", "every: 1 us", ":4: devices[0].load.every: is less than 1 ms"),
        ("spread: 10 %", "spread: 10 %, high: 5 %", ":4: devices[0].load.walk.high: is less than the mean"),
        ("spread: 10 %", "spread: 10 %, relaxation: 1 h", ":4: devices[0].load.walk.relaxation: must be more than zero, and at most 100 times every"),
        ("trace: load.csv", "trace: laod.csv", ':5: devices[1].load.trace: there is no file "laod.csv" (did you mean "load.csv"?)'),
        ("trace: load.csv", "trace: load.csv, every: 1 s", ":5: devices[1].load.every: is for uniform and walk; a trace has its own times"),
        ("trace: load.csv", "trace: []", ":5: devices[1].load.trace: is empty"),
        ("trace: load.csv", "trace: [[1 s, 1 %], [1 s, 2 %]]", ":5: devices[1].load.trace[1][0]: is not later than the one before"),
        ("load: {trace: load.csv}", "load: {}", ":5: devices[1].load: give exactly one of trace, uniform and walk"),
        ("to: 60 %", "to: 0 %", ':5: devices[1].throttle.to: "0 %" must be more than zero'),
        ("[2 s, 1 Mbit/s]", "[2 s, 1]", ':10: network.links[1].bandwidth_trace[1][1]: 1 is not a bit rate (no unit; write e.g. "100 Mbit/s")'),
        ("device: pi, speed", "device: pie, speed", ':12: events[0].device: there is no device "pie" (did you mean "pi"?)'),
        ("at: 2 s, ", "", ":12: events[0]: say when: either at: 2 s, or at_token: 20"),
        ("at: 2 s, ", "at: 2 s, at_token: 3, ", ":12: events[0]: say when: either at: 2 s, or at_token: 20"),
        (", speed: 33 %", "", ":12: events[0]: nothing changes: give speed or memory"),
        ("speed: 33 %", "delay: 3 ms", ":12: events[0].delay: is not of a device"),
        ("link: [pi, hot], b", "link: [pi], b", ":13: events[1].link: names 1 devices; a link is between two"),
        ("link: [pi, hot], b", "link: [pi, hto], b", ':13: events[1].link[1]: there is no device "hto" (did you mean "hot"?)'),
        ("link: [pi, hot], b", "link: [hot, hot], b", ':13: events[1]: "hot" and "hot" are not joined'),
        ("at_token: 4", "at_token: 64", ":14: events[2].at_token: 64 never comes: the first sequence has 64 tokens, 0 to 63"),
        ("[{tokens: 3}]", "[{tokens: 3, max_tokens: 4}, {tokens: 3}]", ":14: events[2].at_token: 4 never comes: the first sequence has 4 tokens, 0 to 3"),
        ("load: {trace: load.csv}", "load: 100 %", ":5: devices[1].load: takes all of the device: it would never finish; give less, or leave the device out"),
        ("memory_load: 10 %", "memory_load: 1", ":4: devices[0].memory_load: takes all of the memory: nothing fits; give less, or leave the device out"),
        ("at_token: 4", "at_token: -1", ":14: events[2].at_token: -1 is less than 0"),
        ("oracle", "orcale", ':15: knowledge: "orcale" is not known here (did you mean "oracle"?)'),
        ("interval: 2", "interval: 0", ":16: decisions.interval: 0 is less than 1"),
        ("time: 1 ms", "time: 1", ':16: decisions.time: 1 is not a duration (no unit; write e.g. "25 ms")'),
        ("precopy", "postcopy", ':17: migration.mode: "postcopy" is not known here (did you mean "precopy"?)'),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_its_place(directory: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    assert error(directory, TEXT.replace(old, new, 1)) == "s.yaml" + message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0,10 %\n1,x\n", 'load.csv:2: "x s" is not a fraction'),
        ("0,10 %\nsoon,20 %\n", 'load.csv:2: "soon" is not a duration (write e.g. "25 ms")'),
        ("time,load\n0,10 %\n1,2,3\n", "load.csv:3: has 3 columns; a trace has two, time and value"),
        ("0,10 %\n2,20 %\n\n1,30 %\n", "load.csv:4: 1 is not later than the line before"),
        ("0,1e3\n", 'load.csv:1: "1e3" must be at most 1'),
        ("", "load.csv: has no values"),
        ("time [parsecs],load\n0.5,10 %\n", 'load.csv:2: "0.5 parsecs" is not a duration (did you mean "0.5 s"?)'),
    ],
)
def test_a_mistake_in_a_trace_is_answered_with_its_file_and_line(directory: Path, content: str, message: str) -> None:
    (directory / "load.csv").write_text(content)
    expected = f"s.yaml:5: devices[1].load.trace: {message}"
    assert error(directory, TEXT) == expected.replace(
        '"x s" is not a fraction', '"x" is not a fraction (write e.g. "1 %")'
    )


def test_a_trace_that_is_not_text(directory: Path) -> None:
    (directory / "load.csv").write_bytes(b"\xff\xfe\x00\x01")
    assert "load.csv: is text in UTF-16; save it in UTF-8" in error(directory, TEXT)


def test_devices_vary_as_the_scenario_says(directory: Path) -> None:
    pi, other, hot = cluster(directory).devices
    assert [hot.slowdown_at(t_s) for t_s in (0.0, 1.4, 1.5, 2.0)] == pytest.approx([1 / 0.9, 1 / 0.9, 2, 1.25])
    assert hot.slowdown_at(20.0) == pytest.approx(1 / (0.8 * 0.6))  # hot, and loaded
    before = [1 / pi.slowdown_at(0.1 * n) for n in range(20)]
    assert len(set(before)) == 20
    assert all(0.5 <= share <= 1 for share in before)
    assert all(1 / pi.slowdown_at(2.0 + 0.1 * n) <= 0.33 for n in range(20))  # the event, beside the load
    assert pi.slowdown_at(1.0) != other.slowdown_at(1.0)
    assert pi.memory_at(0.0) == round(0.9 * 512 * 2**20)


def test_links_vary_as_the_scenario_says(directory: Path) -> None:
    made = cluster(directory)
    assert made.links_vary
    there, back = made.path(0, 1), made.path(1, 0)
    rates = [there.bandwidth_at(0.05 * n) for n in range(20)]
    assert rates == [5e6] * 20  # the trace; the variation of the default is replaced as a whole
    assert [there.bandwidth_at(3.0), there.delay_at(0.0), back.delay_at(0.0)] == pytest.approx([1e6, 0.005, 0.002])
    assert all(50e6 <= back.bandwidth_at(0.05 * n) <= 100e6 for n in range(20))
    slow = made.path(0, 2)
    assert slow.delay_at(2.9) == 0.025
    assert slow.delay_at(3.0) == 0.02
    assert 5e6 <= slow.bandwidth_at(2.9) <= 10e6
    assert 2.5e6 <= slow.bandwidth_at(3.0) <= 5e6
    assert slow.bandwidth_at(1.0) == made.path(2, 0).bandwidth_at(1.0)  # one draw for both directions
    assert slow.bandwidth_at(1.0) != made.path(1, 2).bandwidth_at(1.0)


def test_events_at_tokens_wait_for_the_run(directory: Path) -> None:
    made = cluster(directory)
    assert made.events_at(3) == []
    (change,) = made.events_at(4)
    assert made.devices[2].memory_at(99.0) == 2**30
    later = made.changed(change, 5.0)
    assert [later.devices[2].memory_at(t_s) for t_s in (4.9, 5.0)] == [2**30, 64 * 2**20]
    assert made.devices[2].memory_at(99.0) == 2**30


def test_a_change_of_a_link_is_in_every_path_over_it() -> None:
    devices = "devices: [{name: d, count: 4, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 1 MiB}]\n"
    network = "network: {topology: line, default: {bandwidth: 8 Mbit/s, delay: 2 ms}}\n"
    events = "events: [{at_token: 1, link: [d-2, d-3], delay: 9 ms}]\n"
    made = draw(
        parse_scenario(TEXT[: TEXT.index("devices:")] + devices + network + events + TEXT[TEXT.index("workload") :])
    )
    assert not made.links_vary
    everyone = [(a, b) for a in range(4) for b in range(4) if a != b]
    before = {pair: made.path(*pair) for pair in everyone}
    (change,) = made.events_at(1)
    later = made.changed(change, 1.0)
    assert later.links_vary
    for a, b in everyone:
        over = min(a, b) <= 1 and max(a, b) >= 2
        assert made.crosses(a, b, change) == over
        assert later.path(a, b).delay_at(1.0) == pytest.approx(before[a, b].delay_s + (0.007 if over else 0.0))
        assert later.path(a, b).delay_at(0.9) == pytest.approx(before[a, b].delay_s)


def test_loads_and_factors_never_leave_nothing(directory: Path) -> None:
    text = TEXT.replace("memory_load: 10 %", "memory_load: 10 %, throttle: {after: 0 s, to: 100 %}")
    text = text.replace("walk: {mean: 20 %, spread: 10 %}", "uniform: {low: 100 %, high: 100 %}")
    text = text.replace("low: 50 %, high: 100 %", "low: 0 %, high: 0 %")
    made = cluster(directory, text)
    assert made.devices[0].slowdown_at(0.0) == pytest.approx(1 / MIN_SHARE)
    assert made.path(1, 0).bandwidth_at(0.0) == pytest.approx(MIN_SHARE * 100e6)


def test_equal_seeds_give_equal_variations_everywhere(directory: Path) -> None:
    devices = cluster(directory, TEXT.replace("every: 100 ms", "every: 100 ms, seed: 5")).devices
    assert value(devices[0].availability, 1.0) == value(devices[1].availability, 1.0)


def test_the_resolved_scenario_gives_an_equal_cluster_and_needs_no_file(directory: Path) -> None:
    (directory / "s.yaml").write_text(TEXT)
    scenario = load_scenario(directory / "s.yaml")
    resolved = resolve(scenario)
    (directory / "load.csv").unlink()
    again = parse_scenario(to_yaml(resolved))
    assert draw(again) == draw(scenario)
    assert resolve(again) == resolved
    assert again.devices[2].load.trace == ((0.0, 0.1), (1.5, 0.5), (2.0, 0.2))  # type: ignore[union-attr]


def test_a_stars_events_survive_being_resolved(directory: Path) -> None:
    text = TEXT.replace("  default:", "  topology: star\n  default:").replace("[pi, hot]", "[pi, ap]")
    text = text.replace("from: pi-1, to: pi-2", "from: hot, to: ap")
    scenario = parse_scenario(text, "s", base=directory)
    again = parse_scenario(to_yaml(resolve(scenario)))
    assert draw(again) == draw(scenario)
    assert draw(again).path(0, 2).delay_at(3.0) == pytest.approx(0.02 + 0.002)


def test_the_schema_knows_traces_as_files_and_as_lists() -> None:
    schema = scenario_json_schema()
    trace = schema["$defs"]["TimeVarying-of-a-fraction"]["properties"]["trace"]
    assert {option.get("type") for option in trace["anyOf"]} == {"string", "array", "null"}
    rates = schema["$defs"]["LinkOverride"]["properties"]["bandwidth_trace"]
    assert "a CSV file of time and value" in str(rates)
