"""Simulated runs that lose devices: every token comes, what is lost is placed anew, and it costs what it must."""

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.failing_simulated import ALL, DEVICES, TEXT, Ran, ran

from edgeemu.errors import InfeasibleError, RunError
from edgeemu.report.critical.critical_path import TimePart, critical_paths
from edgeemu.report.rows import NO_STEP
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.run.backend import SampledToken
from edgeemu.run.controller import Controller
from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.recovery import fill_caches
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.run.watcher import Watcher
from edgeemu.scenario.load import parse_scenario


def test_an_exit_costs_what_is_read_and_computed_again() -> None:
    calm, hit = ran(), ran("faults=[{at: 0.2 s, device: b-1, fault: crash}]")
    (row,) = hit.records.rows["recoveries"]
    assert (row.began_s, row.noticed_s, row.lost, row.outcome) == (0.2, 0.2, "b-1", "recovered")
    assert row.noticed_s <= row.decided_s < row.placed_s < row.restored_s
    assert DEVICES.index("b-1") not in hit.placement.devices()
    assert len(hit.records.rows["tokens"]) == ALL
    waited = [
        (token.sequence, token.step) for token in hit.records.rows["tokens"] if token.released_s == row.restored_s
    ]
    (decided,) = [each for each in hit.records.rows["decisions"] if each.event == "placed anew"]
    moved = hit.records.rows["migrations"]
    assert waited == [(decided.sequence, decided.step)]
    assert {(each.sequence, each.step) for each in moved} == set(waited)
    slowest = max(hit.records.rows["tokens"], key=lambda token: token.latency_s)
    assert slowest.released_s == row.restored_s
    assert hit.end_s > calm.end_s + (row.restored_s - row.began_s) / 2


def test_tokens_that_are_taken_at_a_loss_are_recorded_with_what_they_took() -> None:
    """A controller that is late takes them when steps are given up; it can be killed in the recovery that follows."""
    changes = ("workload.concurrency=3", "faults=[{at: 10 ms, device: b-1, fault: crash}]")
    plan, records = make_plan(parse_scenario(TEXT, "failing", changes)), RowsInMemory()
    late, recorded = list[SampledToken](), []

    class LateToAsk(SimulatedBackend):
        async def next_token(self, by_s: float | None = None) -> SampledToken | None:
            token = await super().next_token(by_s)
            while by_s == 0.01 and token is not None:
                late.append(token)
                token = await super().next_token(by_s)
            return token

        async def halt(self, at_s: float) -> list[SampledToken]:
            return [*late, *await super().halt(at_s)]

        async def rewind(self, rows: Mapping[int, int], layers: int, kept: Mapping[int, int]) -> None:
            computed = [(row.sequence, row.step) for row in records.rows["ops"] if row.block == "lm_head"]
            recorded.append((sorted(row[:2] for row in records.rows["tokens"]), sorted(computed)))
            await super().rewind(rows, layers, kept)

    asyncio.run(Controller(plan, LateToAsk(plan), Silent(), records).run())
    assert recorded == [([(0, 0), (1, 0), (2, 0)],) * 2]


def test_a_device_that_holds_nothing_costs_nothing() -> None:
    calm = ran("policy=single")
    idle = next(name for name in DEVICES if DEVICES.index(name) not in calm.placement.devices())
    hit = ran("policy=single", f"faults=[{{at: 0.05 s, device: {idle}, fault: crash}}]")
    assert hit.end_s == calm.end_s
    assert not hit.records.rows["recoveries"]
    assert [row.moment for row in hit.records.rows["faults"]] == ["begins", "noticed"]


def test_a_short_hang_costs_itself_and_a_long_one_is_noticed_by_heartbeat() -> None:
    calm = ran()
    short = ran("faults=[{at: 0.2 s, device: b-1, fault: hang, for: 0.05 s}]")
    assert not short.records.rows["recoveries"]
    assert calm.end_s <= short.end_s <= calm.end_s + 0.05 + 1e-9
    (row,) = ran("faults=[{at: 0.25 s, device: b-1, fault: hang}]").records.rows["recoveries"]
    assert row.noticed_s == pytest.approx(0.5)  # beats at 0.3, 0.4 and 0.5 s are missing


def test_a_device_joins_late_and_one_comes_back() -> None:
    joins = ran("faults=[{at: 20 ms, device: b-3, fault: join}]", "policy=lookahead")
    assert "b-3 has joined" in " ".join(joins.told)
    first = {row.device for row in joins.records.rows["placements"] if row.epoch == 0}
    assert "b-3" not in first
    back = ran("faults=[{at: 0.1 s, device: b-1, fault: reboot, for: 20 ms}]")
    assert [(row.kind, row.moment) for row in back.records.rows["faults"]] == [
        *(("reboot", moment) for moment in ("begins", "noticed", "over")),
        ("join", "begins"),
    ]


LONG = "workload.max_tokens=40"
HANGS = "{at_token: 20, device: b-1, fault: hang"


def joins_s(run: Ran) -> list[float]:
    """When devices join, or join again."""
    return [row.at_s for row in run.records.rows["faults"] if row.kind == "join"]


def token_s(run: Ran, step: int) -> float:
    """When a token of the first sequence starts."""
    return next(row.emulated_s for row in run.records.rows["tokens"] if (row.sequence, row.step) == (0, step - 1))


def test_a_device_that_is_gone_is_not_brought_back_by_a_fault_that_it_is_not_there_to_have() -> None:
    reboots = "{rate: 20000 per hour, device: b-1, fault: reboot, for: 20 ms}"
    left = ran(f"faults=[{{at: 1 ms, device: b-1, fault: leave}}, {reboots}]", LONG).records.rows["faults"]
    assert [(row.kind, row.moment) for row in left] == [("leave", "begins"), ("leave", "noticed")]
    begins_s = token_s(ran(LONG), 20)
    crash = "{at_token: 20, device: b-1, fault: crash, for: 0.4 s}"
    run = ran(f"faults=[{crash}, {{at: 0.2 s, device: b-1, fault: reboot, for: 1 ms}}]", LONG)
    assert joins_s(run) == pytest.approx([begins_s + 0.4])


def test_hangs_one_in_another_are_one() -> None:
    """They are noticed by the beats that are missing since the first, and end with the last."""
    first, second, begins_s = f"{HANGS}, for: 0.2 s}}", "{at: 0.25 s, device: b-1, fault: hang", token_s(ran(LONG), 20)
    assert 0.1 < begins_s < 0.2
    longer = ran(f"faults=[{first}, {second}, for: 0.4 s}}]", LONG)
    assert [row.noticed_s for row in longer.records.rows["recoveries"]] == pytest.approx([0.4])
    assert joins_s(longer) == pytest.approx([0.65])
    assert ran(f"faults=[{first}, {first}]", LONG).end_s == ran(f"faults=[{first}]", LONG).end_s
    ever = ran(f"faults=[{first}, {second}}}]", LONG)
    assert [row.noticed_s for row in ever.records.rows["recoveries"]] == pytest.approx([0.4])
    assert not joins_s(ever)
    within = ran(f"faults=[{first}, {second}, for: 10 ms}}]", LONG)
    assert not within.records.rows["recoveries"]
    assert within.end_s == ran(f"faults=[{first}]", LONG).end_s


def test_a_device_that_crashes_as_it_hangs_is_back_after_both() -> None:
    run = ran(f"faults=[{HANGS}, for: 0.4 s}}, {{at: 0.2 s, device: b-1, fault: reboot, for: 10 ms}}]", LONG)
    assert [row.noticed_s for row in run.records.rows["recoveries"]] == pytest.approx([0.2])
    assert joins_s(run) == pytest.approx([token_s(ran(LONG), 20) + 0.4])


def test_a_device_is_back_when_no_link_that_was_noticed_keeps_it_away() -> None:
    partition = "{at: 0.15 s, partition: [[], [b-1]], for: 0.4 s}"
    link = "{at: 0.2 s, link: [a, b-1], fault: down, for: 0.6 s}"
    run = ran(f"faults=[{partition}, {link}]", LONG)
    assert [each.noticed_s for each in run.records.rows["recoveries"]] == pytest.approx([0.4])
    assert joins_s(run) == pytest.approx([0.8])
    reboots = "{at: 0.11 s, device: b-1, fault: reboot, for: 0.6 s}"
    assert joins_s(ran(f"faults=[{reboots}, {link}]", LONG)) == pytest.approx([0.8])


def test_a_link_that_is_down_for_less_than_beats_notice_costs_no_device() -> None:
    """Also if another is noticed meanwhile."""
    long, short = "{at: 0.15 s, link: [a, b-1], fault: down}", "{at: 0.39 s, link: [a, b-2], fault: down, for: 20 ms}"
    run = ran(f"faults=[{long}, {short}]")
    assert [row.lost for row in run.records.rows["recoveries"]] == ["b-1"]


def test_without_recovery_a_lost_device_ends_the_run() -> None:
    with pytest.raises(RunError, match=r"b-1: crash at 0.2 s, and the scenario has no recovery"):
        ran("recovery=none", "faults=[{at: 0.2 s, device: b-1, fault: crash}]")


def test_survivors_without_room_end_the_run() -> None:
    faults = ", ".join(f"{{at: 0.2 s, device: {name}, fault: crash}}" for name in DEVICES[1:])
    with pytest.raises(InfeasibleError):
        ran(f"faults=[{faults}]", "devices[0].memory=100 KiB")


def test_a_run_that_has_lost_all_devices_says_so() -> None:
    with pytest.raises(InfeasibleError, match=r"^no device is left: a, b-1, b-2, b-3 are gone$"):
        ran("faults=[{at_token: 8, device: b-2, fault: leave}, {at: 0.2 s, device: [a, b], fault: crash, for: 1 s}]")


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_fails_every_token_comes(data: st.DataObject) -> None:
    """Up to three faults at any time, also during the recovery from another, under policies of all kinds."""
    kinds = ["crash", "reboot, for: 0.3 s", "hang", "hang, for: 0.15 s", "leave", "out of memory", "hang, for: 0.4 s"]
    end_s = 1.0
    chosen = data.draw(st.lists(st.sampled_from(DEVICES), min_size=1, max_size=3, unique=True))
    faults = [
        f"{{at: {data.draw(st.integers(1, int(1000 * end_s)))} ms, device: {device}, "
        f"fault: {data.draw(st.sampled_from(kinds))}}}"
        for device in chosen
    ]
    policy = data.draw(st.sampled_from(["layers", "lookahead", "resource-aware", "galaxy", "round-robin", "mdi"]))
    changes = [f"faults=[{', '.join(faults)}]", f"policy={policy}"]
    changes += data.draw(st.sampled_from([[], ["workload.concurrency=3"], ["migration.mode=precopy"]]))
    run = ran(*changes)
    records = run.records.rows
    assert len(records["tokens"]) == ALL
    for row in records["recoveries"]:
        assert row.began_s <= row.noticed_s <= row.restored_s
        assert row.outcome == "recovered"
    by_sequence: dict[int, list[float]] = {}
    for token in sorted(records["tokens"], key=lambda token: (token.sequence, token.step)):
        by_sequence.setdefault(token.sequence, []).append(token.emulated_s)
    assert all(instants == sorted(instants) for instants in by_sequence.values())
    paths = critical_paths(run.records)
    assert TimePart.UNKNOWN not in paths.part
    sums = [0.0] * ALL
    for token, spent_s in zip(paths.token.tolist(), paths.spent_s.tolist(), strict=True):
        sums[token] += spent_s
    assert sums == pytest.approx(paths.latency_s.tolist(), abs=1e-9)


def filled_rows(run: Ran) -> dict[int, list[int]]:
    """Rows whose caches were filled again, by layer, in order; without those of steps that were given up."""
    found: dict[int, list[int]] = {}
    for row in run.records.rows["ops"]:
        if row.step == NO_STEP and row.op >= 0 and row.block == "head":
            found.setdefault(row.layer, []).extend(range(row.past, row.past + row.rows))
    return found


def test_a_loss_while_caches_are_filled_costs_no_rows_of_layers_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device of the last layer goes first, and in the middle of filling all layers that of a layer below."""
    monkeypatch.setattr(fill_caches, "MOST_ROWS", 4)
    prompt, last = "workload.prompts=[{tokens: 40}]", "{at_token: 4, device: b-2, fault: crash}"
    once = ran(prompt, f"faults=[{last}]")
    (row,) = once.records.rows["recoveries"]
    n_rows = row.rows
    assert filled_rows(once) == {layer: list(range(n_rows)) for layer in range(4)}
    ends_s = sorted(each.end_s for each in once.records.rows["ops"] if each.step == NO_STEP and each.layer == 3)
    at_ms = 1e3 * (ends_s[len(ends_s) // 2] + 1e-6)
    twice = ran(prompt, f"faults=[{last}, {{at: {at_ms} ms, device: b-1, fault: crash}}]")
    (both,) = twice.records.rows["recoveries"]
    assert (both.lost, both.attempts) == ("b-1, b-2", 2)
    held = {(each.epoch, each.layer) for each in twice.records.rows["placements"] if each.device == "b-1"}
    second = min(epoch for epoch, _ in held if epoch)
    top = max(layer for epoch, layer in held if epoch == second)
    assert top < 3
    for layer, rows in filled_rows(twice).items():
        assert set(rows) == set(range(n_rows))
        assert (len(rows) > n_rows) == (layer <= top)
    assert len(twice.records.rows["tokens"]) == 12


def test_a_link_that_was_down_for_less_than_beats_notice_is_no_slow_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that looks at links stays where it is. If nobody notes the outage, it takes that for the link's rate."""
    network = "network.default={bandwidth: 100 Mbit/s, delay: 0.1 ms}"
    slow = "devices[0].mem_bandwidth=20 MB/s", "devices[1].mem_bandwidth=20 MB/s"
    asked = "policy=lookahead", "sharding.divide=false", "decisions.interval=1"
    changes = *asked, "workload.max_tokens=20", network, *slow
    down = "faults=[{at: 0.21 s, link: [a, b-1], fault: down, for: 0.15 s}]"

    def changed(run: Ran) -> bool:
        assert not run.records.rows["recoveries"]
        return any(each.moves for each in run.records.rows["decisions"])

    calm, noted = ran(*changes), ran(*changes, down)
    assert noted.end_s > calm.end_s + 0.15
    assert not changed(calm)
    assert not changed(noted)
    monkeypatch.setattr(Watcher, "note_links_down", lambda *_: None)
    assert changed(ran(*changes, down))
