"""Data of pictures is what the records say, in few numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvloop

from edgeemu.report.critical.critical_path import TimePart
from edgeemu.report.drawn.across_runs import labels
from edgeemu.report.drawn.latency import latency_drawing, time_parts_drawing
from edgeemu.report.drawn.palette import DEVICES, OTHERS
from edgeemu.report.drawn.placement import KINDS, NONE, held_map
from edgeemu.report.drawn.run_data import MAX_NAMED, MEMORY_COLUMNS, RunData, part_totals, run_data
from edgeemu.report.drawn.sheet import WIDE, Sheet
from edgeemu.report.html.changes import change_table
from edgeemu.report.record_files import read_table
from edgeemu.report.run_directory import RunDirectory
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
model:
  shape:
    {n_layers: 6, d_model: 96, n_heads: 6, n_kv_heads: 3, head_dim: 16, d_ff: 256, vocab_size: 400, max_context: 300}
devices:
  - {name: laptop, gflops: 5 GFLOPS, mem_bandwidth: 0.9 GB/s, memory: 1.2 MiB}
  - {name: pi, count: 3, gflops: 2 GFLOPS, mem_bandwidth: 0.5 GB/s, memory: 1 MiB}
  - {name: nano, gflops: 4 GFLOPS, mem_bandwidth: 0.6 GB/s, memory: 2 MiB}
network: {default: {bandwidth: 100 Mbit/s, delay: 50 us}}
policy: lookahead
sharding: {divide: false}
decisions: {interval: 4, time: 0.2 ms}
events: [{at_token: 12, device: laptop, speed: 0.2}]
workload: {prompts: [{tokens: 9}], max_tokens: 40}
"""


def simulated(out: Path, *settings: str) -> RunDirectory:
    scenario = parse_scenario(SCENARIO, "seen", settings)
    made = uvloop.run(run_scenario(scenario, policy=None, out=out, observer=Silent(), simulate=True))
    return RunDirectory(made.directory)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return simulated(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def data(run: RunDirectory) -> RunData:
    return run_data(run.records, run.read_facts())


def rows(run: RunDirectory, table: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = read_table(Path(run.path), table).to_pylist()  # type: ignore[arg-type]
    return found


def test_devices_are_busy_for_as_long_as_their_operations_take(run: RunDirectory, data: RunData) -> None:
    table = read_table(run.path, "ops")
    took_s = table.column("end_s").to_numpy() - table.column("start_s").to_numpy()
    names = np.array(table.column("device").to_pylist())
    assert set(data.busy_s) == set(names)
    for name, busy_s in data.busy_s.items():
        assert busy_s.sum() == pytest.approx(took_s[names == name].sum())
        assert (busy_s <= np.diff(data.time.edges) + 1e-9).all(), "one operation at a time"


def test_parts_add_up_to_each_token(data: RunData) -> None:
    np.testing.assert_allclose(part_totals(data, len(TimePart)).sum(axis=1), data.tokens.latency_s, atol=1e-6)


def test_memory_is_that_of_the_fullest_token(run: RunDirectory, data: RunData) -> None:
    most: dict[str, int] = {}
    for row in rows(run, "devices"):
        held = sum(int(str(row[column])) for column in MEMORY_COLUMNS)
        most[str(row["device"])] = max(most.get(str(row["device"]), 0), held)
    assert {name: sum(kinds) for name, kinds in data.memory_bytes.items()} == most


def test_links_add_up(run: RunDirectory, data: RunData) -> None:
    assert sum(use.bytes for use in data.links) == sum(int(str(row["bytes"])) for row in rows(run, "links"))
    assert [use.bytes for use in data.links] == sorted((use.bytes for use in data.links), reverse=True)
    for use in data.links:
        assert use.transit_s == pytest.approx(use.queue_s + use.transfer_s + use.delay_s)


def test_the_typical_token_has_the_median_latency(run: RunDirectory, data: RunData) -> None:
    token = data.one_token
    assert token is not None
    later = np.sort(data.tokens.latency_s[1:])
    assert data.tokens.latency_s[token.step] == later[(len(later) - 1) // 2]
    assert len(token.device) == sum(row["step"] == token.step for row in rows(run, "ops"))


def test_many_devices_are_folded(tmp_path: Path) -> None:
    run = simulated(tmp_path, "devices[1].count=40", "policy=layers", "workload.max_tokens=13")
    data = run_data(run.records, run.read_facts())
    assert len(data.facts.devices) == 42
    assert len(data.shown) == MAX_NAMED
    assert set(data.computing) <= set(data.shown), "those that computed are shown first"
    own = {name for device in data.facts.devices if data.colours.of(name := device.name) is not OTHERS}
    assert len(own) == len(DEVICES)
    assert own <= set(data.shown)


def test_every_block_is_on_the_map_of_its_epoch(data: RunData) -> None:
    names = [device.name for device in data.facts.devices]
    assert data.changes
    for epoch in data.epochs:
        held = held_map("", epoch.rows, names)
        assert [len(held.cells[kind]) for kind in KINDS] == [6, 6, 6]
        assert all((held.cells[kind] != NONE).all() for kind in KINDS)
        for row in epoch.rows:
            if row.block == "head":
                cells = held.cells["head"][row.layer, row.first : row.end]
                assert {names[at] for at in cells.tolist()} == {row.device}


def test_a_change_says_what_came_of_it(data: RunData) -> None:
    table = change_table(data)
    assert len(table.rows) == len(data.changes)
    row = dict(zip(("token", "measured", "decided", "expected before", "expected after"), table.rows[0], strict=False))
    assert "laptop measured at" in row["measured"]
    assert row["token"] == str(data.changes[0].step + 1)
    before_ms, after_ms = (float(text.split()[0]) for text in table.rows[0][-2:])
    step = data.changes[0].step
    latency_s = data.tokens.latency_s
    assert before_ms == pytest.approx(1000 * np.median(latency_s[step - 4 : step]), abs=0.06)
    assert after_ms == pytest.approx(1000 * np.median(latency_s[step + 1 : step + 5]), abs=0.06)


def test_a_change_that_was_aborted_says_so(data: RunData) -> None:
    moved = [each._replace(outcome="aborted: pi-1 has no room", pause_s=0.0) for each in data.moved]
    _, _, decided, *_, waited, before, after = change_table(replace(data, moved=moved, epochs=data.epochs[:1])).rows[0]
    blocks = next(row.moves for row in data.decisions if row.moves is not None)
    assert decided == f"{blocks} blocks to move; aborted: pi-1 has no room"
    assert (waited, before, after) == ("0.0 ms", "", "")


def test_runs_are_named_by_what_differs(data: RunData) -> None:
    one = data.facts
    fewer = replace(one, devices=one.devices[:2])
    other = replace(one, policy="layers")
    assert labels([one, one]) == ["lookahead", "lookahead"]
    assert labels([one, other]) == ["lookahead", "layers"]
    assert labels([one, fewer]) == ["5 devices", "2 devices"]
    assert labels([one, fewer, other]) == ["lookahead, 5 devices", "lookahead, 2 devices", "layers, 5 devices"]
    renamed = replace(fewer, scenario="small")
    assert labels([one, renamed]) == ["5 devices", "2 devices"]


def test_tokens_are_counted_in_whole_numbers(tmp_path: Path) -> None:
    short = simulated(tmp_path, "workload.max_tokens=20")
    data = run_data(short.records, short.read_facts())
    for drawn in (latency_drawing(data), time_parts_drawing(data)):
        assert drawn is not None
        sheet = Sheet(WIDE)
        drawn.draw(sheet)
        (axes,) = sheet.figure.axes
        assert all(place == round(place) for place in axes.get_xticks())
