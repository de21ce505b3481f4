"""The live view: what it adds up, how it fits terminals of any size, and that it follows moves and another size."""

import asyncio
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import uvloop
from rich.cells import cell_len
from rich.console import Console
from support.moving import Shuffle
from support.moving import make as moving_plan
from support.several import make as several_plan

from edgeemu.cli.live_panel import panel
from edgeemu.cli.terminal_observers import LIVE_EVERY_S, Shown, TerminalConcurrentObserver, TerminalObserver
from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.placement import Placement
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.report.usage_rows import StepRows
from edgeemu.run.controller import Controller
from edgeemu.run.live_state import LiveState
from edgeemu.run.live_use import LOOKS, Use
from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Observer, Silent
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MANY = """
model:
  shape: {{n_layers: {layers}, d_model: 32, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_ff: 64, vocab_size: 99,
          max_context: 4096}}
devices:
  - {{name: {name}, count: {count}, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 64 MiB}}
network:
  default: {{bandwidth: 10 Mbit/s, delay: 1 ms}}
workload:
  prompts: [{{tokens: 8}}]
  max_tokens: 5
policy: round-robin
"""


def many(count: int, layers: int, name: str = "edge") -> Plan:
    return make_plan(parse_scenario(MANY.format(count=count, layers=layers, name=name)))


def simulate(plan: Plan, observer: Observer) -> None:
    observer.planned(plan)
    uvloop.run(Controller(plan, SimulatedBackend(plan), observer, RowsInMemory()).run())


class Told(Silent):
    """All that a run tells, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def worked(self, rows: StepRows, now_s: float) -> None:
        self.calls.append(("worked", (rows, now_s)))

    def moving(self, say: Callable[[], str]) -> None:
        self.calls.append(("moving", say()))

    def placed(self, placement: Placement) -> None:
        self.calls.append(("placed", placement))


def told_by(plan: Plan) -> Told:
    told = Told()
    simulate(plan, told)
    return told


# -- what is added up ------------------------------------------------------------------------------------------------


def test_loads_and_links_are_the_work_of_the_last_looks_over_its_time() -> None:
    plan = several_plan()
    works: list[tuple[StepRows, float]] = [what for name, what in told_by(plan).calls if name == "worked"]
    names = [device.name for device in plan.cluster.devices]
    by_columns, by_rows = Use(names), Use(names)
    devices, links = [], []  # of all looks: rows, with the number of their look
    for look, (rows, now_s) in enumerate(works):
        found = {name: list(columns) for name, columns in rows.columns}
        devices += [(look, row) for row in found.get("devices", [])]
        links += [(look, row) for row in found.get("links", [])]
        by_columns.add(rows, now_s)
        by_rows.add(StepRows(devices=found.get("devices", []), links=found.get("links", [])), now_s)  # type: ignore[arg-type]
        by_columns.look()
        by_rows.look()
    first = len(works) - LOOKS
    passed_s = works[-1][1] - works[first - 1][1]
    busy_s = [sum(row.busy_s for look, row in devices if look >= first and row.device == name) for name in names]
    assert by_columns.loads == pytest.approx(np.array(busy_s) / passed_s)
    assert 0.02 < by_columns.loads.max() <= 1.0
    assert by_rows.loads == pytest.approx(by_columns.loads)
    assert by_rows.links == by_columns.links
    assert by_rows.held_bytes.tolist() == by_columns.held_bytes.tolist()
    used = by_columns.links[0]
    ends = names[used.source], names[used.target]
    mine = [row for look, row in links if look >= first and (row.source, row.target) == ends]
    assert used.share == pytest.approx(sum(row.transfer_s for row in mine) / passed_s)
    assert used.bits_per_s == pytest.approx(8 * sum(row.bytes for row in mine) / passed_s)
    assert used.queue_s == pytest.approx(sum(row.queue_s for row in mine) / sum(row.messages for row in mine))
    assert [link.share for link in by_columns.links] == sorted((link.share for link in by_columns.links), reverse=True)


def test_memory_is_what_a_device_holds_and_of_one_that_holds_nothing_there_is_none() -> None:
    plan = many(3, 2)
    state = LiveState(plan, lambda: 0.0)
    assert [device.held_bytes for device in state.devices] == [page.total_bytes for page in plan.pages]
    state.placed(Placement(dict.fromkeys(all_blocks(plan.model.shape), 1)))
    state.look()
    assert [device.holds for device in state.devices] == ["", "embed, layers 0-1, lm_head", ""]
    assert [device.held_bytes > 0 for device in state.devices] == [False, True, False]
    assert all(device.marked for device in state.devices)
    for _ in range(20):
        state.look()
    assert not any(device.marked for device in state.devices)


def test_the_time_left_follows_the_tokens_so_far() -> None:
    plan, now_s = several_plan("workload.concurrency=2"), [100.0]
    total = sum(request.max_tokens for request in plan.requests)
    state = LiveState(plan, lambda: now_s[0])
    assert state.left_s() is None
    for sequence in (0, 1):
        state.sequence_started(sequence)
        for step in range(3):
            state.token(sequence, step, 0.5 if step == 0 else 0.1)
    state.worked(StepRows(), 1.0)
    now_s[0] = 103.0  # the clock is three times as slow as the timeline
    unopened = len(plan.requests) - 2
    assert state.left_s() == pytest.approx(3 * (unopened * 0.5 + (total - 6 - unopened) * 0.1) / 2)
    state.sequence_ended(0)  # early: its other tokens count as done
    assert state.tokens == 6 + plan.requests[0].max_tokens - 3


def test_a_run_tells_what_moves_before_it_tells_who_holds_it() -> None:
    plan = moving_plan("decisions.interval=2", "migration.mode=precopy", decide=Shuffle(3, 0.4))
    calls = [call for call in told_by(plan).calls if call[0] != "worked"]
    placements, moving = [plan.placement], 0
    for name, what in calls:
        if name == "moving":
            moving += 1
            assert re.search(r"(blocks?|layer|embed|lm_head|nothing).*\. Why: ", what)
        elif name == "placed" and what is not placements[-1]:
            assert moving, "nothing has moved that was not told"
            placements.append(what)
    assert moving >= len(placements) - 1 >= 2
    last = [what for name, what in calls if name == "placed"][-1]
    assert last is placements[-1]


# -- how it fits -------------------------------------------------------------------------------------------------------


def looked(plan: Plan) -> LiveState:
    state = LiveState(plan, lambda: 0.0)
    for name, what in told_by(plan).calls:
        if name == "worked":
            state.worked(*what)
    state.look()
    return state


@pytest.mark.parametrize("name", ["edge", "a-board-whose-name-is-as-long-as-a-name-can-be-of-64-letters"])
@pytest.mark.parametrize(("count", "layers"), [(1, 1), (5, 6), (25, 3), (1000, 100)])
def test_it_fits_terminals_of_any_size(count: int, layers: int, name: str) -> None:
    state = looked(many(count, layers, name))
    state.moving = "layers 0-8 from laptop to nano. Why: " + "laptop measured at 33 % of its speed and " * 9
    holding = [device for device in state.devices if device.holds]
    for width in (80, 100, 200, 400):
        for height in (5, 6, 7, 16, 36):
            lines = panel(state, width, height, "about 3 min left")
            assert len(lines) <= height
            assert max((line.cell_len for line in lines), default=0) <= width
            text = "\n".join(line.plain for line in lines)
            shown = [device for device in state.devices if re.search(rf"^{device.name}  ", text, re.MULTILINE)]
            if height < 6:
                assert text == ""
                continue
            assert shown
            assert "about 3 min left" in text
            assert "moving layers 0-8" in text
            if more := count - len(shown):
                assert re.search(rf"… and {more} more|\b{more} devices? holds? nothing", text)
            if len(shown) < len(holding):
                least = min(device.load for device in shown)
                assert all(device.load <= least for device in holding if device not in shown)
            if width >= 100 or name == "edge":
                assert "%" in text


def test_of_25_devices_on_24_lines_those_that_hold_nothing_are_folded() -> None:
    lines = [line.plain for line in panel(looked(many(25, 1)), 80, 16)]
    assert (len(lines), lines[-2]) == (10, "19 devices hold nothing")
    assert lines[-1].startswith("links  edge-")
    assert lines[1].split() == ["device", "load", "memory", "holds"]
    assert re.fullmatch(r"edge-1 +\d+ %  [█░]{8} +\d+ %  embed.*", lines[2])


def test_without_unicode_bars_are_ascii() -> None:
    lines = [line.plain for line in panel(looked(many(5, 6)), 200, 30, ascii_only=True)]
    assert re.search(r" #*-+ +\d+ % ", lines[2])
    assert "█" not in "".join(lines)


# -- how it is drawn -------------------------------------------------------------------------------------------------


class Terminal(Console):
    """A terminal whose size can be changed."""

    def __init__(self, width: int, height: int) -> None:
        self.text = io.StringIO()
        super().__init__(file=self.text, force_terminal=True, width=width, height=height, legacy_windows=False)

    def shown(self) -> str:
        return CONTROL.sub("", self.text.getvalue()).replace("\r", "")


@contextmanager
def observed(terminal: Terminal, *, clock: bool = True, **how: bool) -> Iterator[TerminalObserver]:
    observer = TerminalObserver(terminal, Shown(clock=(lambda: 0.0) if clock else None, **how))
    with observer.live:
        yield observer


def test_it_is_there_on_a_terminal_that_is_large_enough_and_only_then() -> None:
    for width, height, clock, there in (
        (80, 24, True, True),
        (79, 24, True, False),
        (80, 23, True, False),
        (80, 24, False, False),
    ):
        terminal = Terminal(width, height)
        with observed(terminal, clock=clock) as observer:
            simulate(moving_plan(decide=Shuffle(3, 0.4)), observer)
            observer._draw()
        assert ("s emulated" in terminal.shown()) is there
        assert "b-1 " in terminal.shown() or not there


def test_several_sequences_have_it_too_and_moves_are_told_above_or_in_it() -> None:
    for moves in (True, False):
        terminal = Terminal(200, 50)
        observer = TerminalConcurrentObserver(terminal, Shown(clock=lambda: 0.0, moves=moves))
        with observer.live:
            simulate(moving_plan("workload.concurrency=2", "decisions.interval=2", decide=Shuffle(3, 0.4)), observer)
            observer._draw()
            terminal.text.truncate(0)
            observer.live.refresh()
        view = terminal.shown()
        assert "token 16 of 16" in view
        assert ("before token" in view) is not moves


def test_it_is_drawn_a_few_times_a_second_at_most() -> None:
    terminal, draws = Terminal(80, 24), []

    async def main() -> None:
        with observed(terminal) as observer:
            observer.planned(moving_plan(decide=Shuffle(3, 0.4)))
            draw = observer._draw
            observer._draw = lambda: (draws.append(asyncio.get_running_loop().time()), draw())  # type: ignore[method-assign,assignment,func-returns-value]
            observer.sequence_started(0, "go", 8)
            for step in range(60):
                observer.token(0, step, f" {step}", 0.01)
                await asyncio.sleep(0.01)
            await asyncio.sleep(2 * LIVE_EVERY_S)

    asyncio.run(main())
    assert len(draws) >= 2
    assert min(np.diff(draws)) > 0.9 * LIVE_EVERY_S


def test_on_a_terminal_of_another_size_all_is_drawn_again_on_an_empty_screen() -> None:
    terminal = Terminal(200, 50)
    with observed(terminal) as observer:
        observer.planned(moving_plan(decide=Shuffle(3, 0.4)))
        observer.sequence_started(0, "to be or not to be", 8)
        observer.token(0, 0, "word " * 30 + "\nlast", 0.1)
        observer._draw()
        assert "\x1b[2J" not in terminal.text.getvalue()
        terminal.size = (90, 30)
        observer._draw()
        _, cleared, after = terminal.text.getvalue().partition("\x1b[2J")
        assert cleared
        again = CONTROL.sub("", after).replace("\r", "\n")
        assert again.count("> to be or not to be\n") == 1
        assert again.count("word") == 30
        assert max(cell_len(line) for line in again.splitlines()) <= 90
        observer._draw()
        assert terminal.text.getvalue().count("\x1b[2J") == 1
