"""A trace shows what the records of a run say: Perfetto's own engine reads it."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop
from support.perfetto import OpenTrace, node, opened

from edgeemu.errors import RequestError
from edgeemu.report.record_files import read_table
from edgeemu.report.rows import NO_STEP
from edgeemu.report.run_directory import RunDirectory
from edgeemu.report.trace import chosen_steps
from edgeemu.report.trace.chosen_steps import Steps
from edgeemu.report.trace.trace import write_trace
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

pytestmark = pytest.mark.skipif(node() is None, reason="Perfetto's engine needs node (Debian: nodejs)")

MODEL = """
model:
  shape: {n_layers: 3, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 200, max_context: 64}
decisions: {time: 0.2 ms, interval: 2}
"""
CHAIN = """
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB, message_overhead: 0.1 ms,
     power: {idle: 1 W, busy: 3 W}}
  - {name: b, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB, power: {idle: 2 W, busy: 5 W}}
network: {default: {bandwidth: 10 Mbit/s, delay: 1 ms}}
policy: layers
workload: {prompts: [{tokens: 7}], max_tokens: 6}
"""
HEADS = """
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}
  - {name: b, count: 2, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB}
network: {default: {bandwidth: 2 Mbit/s, delay: 1 ms}}
policy: round-robin
workload: {prompts: [{tokens: 7}, {tokens: 3}, {tokens: 4}, {tokens: 5}], max_tokens: 6, concurrency: 3}
"""
MOVING = """
devices:
  - {name: a, gflops: 10 GFLOPS, mem_bandwidth: 1 GB/s, memory: 1 GiB, message_overhead: 10 us}
  - {name: b, gflops: 10 GFLOPS, mem_bandwidth: 1 GB/s, memory: 1 GiB}
network: {default: {bandwidth: 1 Gbit/s, delay: 0.1 ms}}
events: [{at_token: 4, device: a, speed: 0.1}]
policy: lookahead
sharding: {divide: false}
workload: {prompts: [{tokens: 3}, {tokens: 5}], max_tokens: 20, concurrency: 2}
"""
OPERATIONS = """
select process.name device, s.name, s.ts, s.dur, extract_arg(s.arg_set_id, 'args.sequence') sequence,
       extract_arg(s.arg_set_id, 'args.step') step, extract_arg(s.arg_set_id, 'args.groups') n_groups,
       extract_arg(s.arg_set_id, 'args.flops') flops, extract_arg(s.arg_set_id, 'args.bytes_read') bytes_read,
       extract_arg(s.arg_set_id, 'args.waited_for') waited_for, s.id, thread.name thread
from slice s join thread_track t on s.track_id = t.id join thread using (utid) join process using (upid)
where s.category = 'operation'
"""
MESSAGES = """
select s.id, s.name, s.ts, s.dur, thread.name path, extract_arg(s.arg_set_id, 'args.bytes') bytes, f.slice_out sender
from slice s join thread_track t on s.track_id = t.id join thread using (utid)
     left join flow f on f.slice_in = s.id where s.category = 'message'
"""


class Traced:
    """A run on links of one bandwidth, and its trace as Perfetto has read it."""

    def __init__(self, run: RunDirectory, trace: OpenTrace, mbit_per_s: float) -> None:
        self.run, self.trace, self.mbit_per_s = run, trace, mbit_per_s
        self.rows = {name: read_table(run.path, name).to_pylist() for name in ("ops", "tokens", "links", "devices")}


def run_of(text: str, out: Path) -> RunDirectory:
    scenario = parse_scenario(MODEL + text, "traced")
    running = run_scenario(scenario, policy=None, out=out, observer=Silent(), simulate=True)
    return RunDirectory(uvloop.run(running).directory)


@contextmanager
def traced(text: str, out: Path, mbit_per_s: float = 0) -> Iterator[Traced]:
    run, path = run_of(text, out), out / "trace.json.gz"
    write_trace(path, run.records, run.read_facts())
    with opened(path) as trace:
        assert trace.query("select name, value from stats where severity != 'info' and value > 0") == []
        yield Traced(run, trace, mbit_per_s)


@pytest.fixture(scope="module", params=[(CHAIN, 10), (HEADS, 2), (MOVING, 1000)], ids=["chain", "heads", "moving"])
def each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    text, mbit_per_s = request.param
    with traced(text, tmp_path_factory.mktemp("runs"), mbit_per_s) as found:
        yield found


def ns(time_s: float) -> int:
    return round(time_s * 1e9)


def label(row: dict[str, Any]) -> str:
    return row["block"] if row["layer"] < 0 else f"{row['block']} {row['layer']}"


def of_steps(each: Traced) -> list[dict[str, Any]]:
    """Rows of operations without those of chunks of blocks that move, which are of no step."""
    rows = each.rows["ops"]
    transfers = [row for row in rows if row["step"] == NO_STEP]
    assert {row["block"] for row in transfers} <= {"send", "receive"}
    n_migrated = read_table(each.run.path, "migrations").num_rows
    assert len(transfers) >= n_migrated, "a message at least for each block, of devices that take time for messages"
    return [row for row in rows if row["step"] != NO_STEP]


def test_slices_are_the_operations(each: Traced) -> None:
    found = each.trace.query(OPERATIONS)
    shown = [tuple(row.values())[:9] for row in found]
    ops = [
        (
            *(row["device"], label(row), ns(row["start_s"]), ns(row["end_s"]) - ns(row["start_s"])),
            *(row[key] for key in ("sequence", "step", "groups", "flops", "bytes_read")),
        )
        for row in each.rows["ops"]
    ]
    assert len(ops) > 50
    assert Counter(shown) == Counter(ops)
    assert {row["thread"] for row in found} == {"operations"}, "a device does one at a time"


def test_arrows_are_the_messages_that_operations_waited_for(each: Traced) -> None:
    ops = of_steps(each)
    made = {(row["sequence"], row["step"], row["op"]): row for row in ops}
    released = {(row["sequence"], row["step"]): row["released_s"] for row in each.rows["tokens"]}
    expected = Counter[tuple[Any, ...]]()
    for row in ops:
        sender = made.get((row["sequence"], row["step"], row["last_op"]))
        if sender is None or not row["last_bytes"]:
            continue
        sent_s = sender["end_s"]
        if sender["block"] == "lm_head":
            sent_s = released[row["sequence"], row["step"]]
            before, sender = sender, made.get((row["sequence"], row["step"] - 1, row["last_op"]))
            # Otherwise another placement was in force.
            if sender is None or (sender["block"], sender["device"]) != ("lm_head", before["device"]):
                continue
        times = ns(sent_s), ns(row["ready_s"])
        expected[sender["device"], label(sender), *times, row["device"], label(row), row["last_bytes"]] += 1
    operations = {row["id"]: row for row in each.trace.query(OPERATIONS)}
    messages = {row["id"]: row for row in each.trace.query(MESSAGES)}
    arrows = each.trace.query("select slice_out, slice_in from flow")
    shown = Counter[tuple[Any, ...]]()
    for message, taker in ((messages.get(row["slice_out"]), operations.get(row["slice_in"])) for row in arrows):
        if message is None or taker is None:
            continue
        sender = operations[message["sender"]]
        assert message["name"] == sender["name"]
        assert message["path"].startswith(f"{sender['device']} -> {taker['device']}")
        assert taker["waited_for"] == f"{sender['name']} on {sender['device']}"
        times = message["ts"], message["ts"] + message["dur"]
        shown[sender["device"], sender["name"], *times, taker["device"], taker["name"], message["bytes"]] += 1
    assert sum(expected.values()) > 10
    assert shown == expected


def test_no_slice_of_a_path_or_a_sequence_lies_upon_another(each: Traced) -> None:
    depths = each.trace.query("select category, max(depth) depth from slice group by 1")
    flat = {row["category"]: row["depth"] for row in depths}
    assert {name: flat[name] for name in ("message", "token", "critical path")} == {
        "message": 0,
        "token": 0,
        "critical path": 0,
    }


def test_tokens_and_their_critical_paths_fill_the_same_time(each: Traced) -> None:
    sums = """
    select thread.name sequence, extract_arg(arg_set_id, 'args.step') step, min(ts) ts, sum(dur) dur, count(*) n
    from slice s join thread_track t on s.track_id = t.id join thread using (utid) where s.category = '{}' group by 1, 2
    """
    tokens, paths = (
        {(row["sequence"], row["step"]): row for row in each.trace.query(sums.format(category))}
        for category in ("token", "critical path")
    )
    assert tokens.keys() == paths.keys()
    for key, token in tokens.items():
        assert abs(token["dur"] - paths[key]["dur"]) <= paths[key]["n"], "a nanosecond of rounding for each part"
        assert abs(token["ts"] - paths[key]["ts"]) <= 2
    rows = {(f"sequence {row['sequence']}", row["step"]): row for row in each.rows["tokens"]}
    assert {key: token["dur"] for key, token in tokens.items()} == pytest.approx(
        {key: 1e9 * row["latency_s"] for key, row in rows.items()}, abs=2
    )


def counters(trace: OpenTrace, name: str) -> dict[tuple[str, int], float]:
    """Values of a counter by process and time."""
    query = f"""
    select process.name process, ts, value from counter c join process_counter_track t on c.track_id = t.id
    join process using (upid) where t.name = '{name}'
    """
    return {(row["process"], row["ts"]): row["value"] for row in trace.query(query)}


def test_counters_are_memory_load_and_bandwidth(each: Traced) -> None:
    when = {(row["sequence"], row["step"]): row for row in each.rows["tokens"]}
    for kind in ("weights", "cache", "workspace", "messages", "incoming"):
        assert counters(each.trace, f"memory {kind}") == {
            (row["device"], ns(when[row["sequence"], row["step"]]["emulated_s"])): row[f"{kind}_bytes"]
            for row in each.rows["devices"]
        }
    conditions = read_table(each.run.path, "conditions").to_pylist()
    assert counters(each.trace, "speed share") == {(row["device"], ns(row["at_s"])): row["speed"] for row in conditions}
    found = each.trace.query("select distinct t.name, value from counter c join counter_track t on c.track_id = t.id")
    bandwidths = {row["name"]: row["value"] for row in found if " -> " in row["name"]}
    assert bandwidths == {
        f"{row['source']} -> {row['target']} Mbit/s": pytest.approx(each.mbit_per_s) for row in each.rows["links"]
    }


def test_power_is_that_of_computing_while_an_operation_runs(tmp_path: Path) -> None:
    with traced(CHAIN, tmp_path) as each:
        counted = counters(each.trace, "power W")
        energy_j = dict.fromkeys("ab", 0.0)
        for device, idle_w in (("a", 1.0), ("b", 2.0)):
            steps = sorted((at_ns, value) for (name, at_ns), value in counted.items() if name == device)
            for (at_ns, value), (until_ns, _) in pairwise(steps):
                energy_j[device] += (value - idle_w) * (until_ns - at_ns) / 1e9
            assert steps[-1][1] == idle_w
        computed_j = {
            name: sum(row["energy_j"] for row in each.rows["devices"] if row["device"] == name) for name in "ab"
        }
        assert energy_j == pytest.approx(computed_j, rel=1e-6)


def test_changes_of_placement_are_marked_with_their_reason(tmp_path: Path) -> None:
    with traced(MOVING, tmp_path) as each:
        moved = read_table(each.run.path, "migrations").to_pylist()
        spans = each.trace.query("select name, ts, dur from slice where category in ('migration', 'pause') order by 1")
        began_ns, ended_ns = ns(moved[0]["began_s"]), ns(moved[0]["ended_s"])
        pause_ns = ns(moved[0]["ended_s"] - moved[0]["pause_s"])
        assert {row["epoch"] for row in moved} == {2}
        assert spans == [
            {"name": "migration", "ts": began_ns, "dur": ended_ns - began_ns},
            {"name": "pause", "ts": pause_ns, "dur": ended_ns - pause_ns},
        ]
        (why,) = each.trace.query(
            "select name, ts, extract_arg(arg_set_id, 'args.why') why from slice where category = 'decision'"
        )
        (decided,) = [row for row in read_table(each.run.path, "decisions").to_pylist() if row["moves"]]
        assert why["name"] == f"decided: {decided['moves']} blocks to move"
        assert why["why"] == decided["why"] != ""
        decided_before = decided["sequence"], decided["step"]
        (token,) = [row for row in each.rows["tokens"] if (row["sequence"], row["step"]) == decided_before]
        assert abs(why["ts"] - 1e9 * (token["emulated_s"] - token["latency_s"])) <= 1


def events_of(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return found


def outside(event: dict[str, Any]) -> bool:
    """Whether an event is of a token but 2 and 3; of 2, what it waited for is outside."""
    if event["name"] == "embed":
        event["args"].pop("waited_for", None)
    return not 2 <= event["args"]["step"] < 4


def test_some_tokens_in_detail(tmp_path: Path) -> None:
    run = run_of(HEADS, tmp_path)
    path = tmp_path / "trace.json.gz"
    write_trace(path, run.records, run.read_facts())
    whole = events_of(path)
    assert write_trace(path, run.records, run.read_facts(), Steps(2, 4)) == (2, 4)
    part = events_of(path)
    for category, chosen in (("operation", True), ("critical path", True), ("token", False)):
        wanted, found = (
            [event for event in events if event.get("cat") == category and not (chosen and outside(event))]
            for events in (whole, part)
        )
        assert len(wanted) > 10
        assert found == wanted


def test_a_long_run_shows_as_many_tokens_as_open_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(CHAIN, tmp_path)
    of_token = Counter(row["step"] for row in read_table(run.path, "ops").to_pylist())
    monkeypatch.setattr(chosen_steps, "MAX_OPERATIONS", of_token[0] + of_token[1] + 1)
    path = tmp_path / "trace.json.gz"
    assert write_trace(path, run.records, run.read_facts()) == (0, 2)
    for asked, why in (
        (Steps(0, 3), "--tokens: 0-2 are 3[0-9] operations, and a trace shows at most 2[0-9]: those of 0-1"),
        (Steps(6, 9), "--tokens: the run has tokens 0-5"),
    ):
        with pytest.raises(RequestError) as refused:
            write_trace(path, run.records, run.read_facts(), asked)
        assert re.fullmatch(why, str(refused.value))
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".partial"] == []
