"""A link that was left because it became slow is measured while nothing uses it, and used again when it is good."""

from dataclasses import replace
from itertools import pairwise

import pytest
import uvloop
from support.clusters import cluster
from support.several import make, reference_tokens, simulated, tokens_of
from support.watching import RecordedRun

from edgeemu.placement.blocks import Block, ffn
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.report.rows import OperationRow
from edgeemu.run.plan import Plan

SLOW, GOOD = 5, 12  # tokens
EVENTS = (
    f"events=[{{at_token: {SLOW}, link: [a, b-1], delay: 6 ms}}, {{at_token: {GOOD}, link: [a, b-1], delay: 1 ms}}]"
)
ONE = (
    "workload.prompts=[{tokens: 7}]",
    "workload.max_tokens=40",
    "network.default.bandwidth=1 Gbit/s",
    "decisions.smoothing=100 %",
    EVENTS,
)
BLOCK: Block = ffn(1)


def wary(view: ClusterView, current: Placement | None) -> Placement:
    """One block on device 1 as long as its link is quick, everything else on device 0."""
    assert current is not None
    place = int(view.delay_s(0, 1) < 0.004)
    return current if current.owner[BLOCK] == place else current.moved([BLOCK], place)


def content(view: ClusterView, current: Placement | None) -> Placement:
    """One block on device 1 until its link is slow, then everything on device 0, for ever."""
    assert current is not None
    return current if view.delay_s(0, 1) < 0.004 or not current.owner[BLOCK] else current.moved([BLOCK], 0)


def wary_plan(*changes: str) -> Plan:
    plan = make(*ONE, *changes)
    at_first = Placement({block: int(block == BLOCK) for block in plan.placement.owner})
    return replace(plan, placement=at_first, decide=wary)


def moved_at(run: RecordedRun) -> list[tuple[int, str]]:
    return [(row.step, row.target) for row in run.migrations]


def transfers(run: RecordedRun) -> list[OperationRow]:
    """Rows of chunks and test messages, which keep processors busy."""
    return sorted(row for row in run.ops if row.sequence < 0)


def explored_at(run: RecordedRun) -> list[int]:
    return [row.step for row in run.recorded.rows["decisions"] if row.event == "explored"]


def test_a_link_that_recovers_is_used_again() -> None:
    run = simulated(wary_plan())
    (left, home), (back, away) = moved_at(run)
    assert (home, away) == ("a", "b-1")
    assert SLOW < left <= SLOW + 2
    assert GOOD < back <= GOOD + 16
    probes = explored_at(run)
    assert probes
    assert probes[-1] < back
    links = run.recorded.rows["links"]
    unused = [row for row in links if row.step in probes and (row.source, row.target) == ("a", "b-1")]
    assert sum(row.bytes for row in unused) > 16_384 * (len(probes) - 1), "its bytes are in the records"


def test_a_link_that_the_policy_does_not_want_costs_few_questions() -> None:
    asked = []

    def counted(view: ClusterView, current: Placement | None) -> Placement:
        asked.append(view.past)
        return content(view, current)

    run = simulated(replace(wary_plan(), decide=counted))
    decided = [row for row in run.recorded.rows["decisions"] if row.event == "decided"]
    explored = explored_at(run)
    assert [target for _, target in moved_at(run)] == ["a"]
    assert 1 <= len(explored) <= 4, "after 4, 8 and then each 16 tokens"
    assert len(asked) == len(decided) + len(explored), "every question has a row"
    assert not [row for row in run.recorded.rows["links"] if row.step > SLOW + 2 and row.target == "b-1"], "no messages"


BUSY = ("devices[0].message_overhead=0.2 ms", "devices[1].message_overhead=0.1 ms", "devices[1].byte_overhead=10 ns")


@pytest.mark.parametrize("busy", [(), BUSY], ids=["", "busy"])
@pytest.mark.parametrize("mode", ["virtual", "realtime"])
def test_real_bytes_measure_as_the_simulator_says(mode: str, busy: tuple[str, ...]) -> None:
    plan = wary_plan(f"time.mode={mode}", *busy)

    async def main() -> RecordedRun:
        async with cluster(plan) as run:
            return await run(plan)

    made, again = uvloop.run(main()), simulated(wary_plan(*busy))
    assert tokens_of(made) == reference_tokens(plan)
    assert made.problems == []
    assert len(moved_at(made)) == 2
    assert explored_at(made)
    trials = [row for row in again.recorded.rows["decisions"] if row.event == "tried"] if mode == "realtime" else []
    without = len(transfers(again)) - 4 * len(trials)  # in real time no link is tried; both ends of two messages
    assert len(transfers(made)) == (without if busy else 0)
    if mode == "virtual":
        assert moved_at(made) == moved_at(again)
        assert explored_at(made) == explored_at(again)
        assert [row.emulated_s for row in made.tokens] == [row.emulated_s for row in again.tokens]
        assert transfers(made) == transfers(again)
        assert made.devices.measured.sent_bytes == again.devices.measured.sent_bytes


def test_a_link_that_is_bad_from_the_start_on_is_not_forgotten() -> None:
    """The first placement knows it, and so do later decisions, until the link is measured again."""
    seen = []

    def watching(view: ClusterView, current: Placement | None) -> Placement:
        """Everything on device 0; device 1 has a block as soon as its link is quick."""
        assert current is not None
        seen.append(view.delay_s(0, 1))
        return wary(view, current)

    bad = "events=[{at: 0 s, link: [a, b-1], delay: 6 ms}, {at_token: 12, link: [a, b-1], delay: 1 ms}]"
    plan = make(*ONE, bad)
    assert plan.view.delay_s(0, 1) == pytest.approx(0.006)
    at_first = Placement(dict.fromkeys(plan.placement.owner, 0))
    run = simulated(replace(plan, placement=at_first, decide=watching))
    assert seen[0] == pytest.approx(0.006, rel=0.01)
    ((step, target),) = moved_at(run)
    assert target == "b-1"
    assert GOOD < step <= GOOD + 16, "it is measured again"


@pytest.mark.parametrize("interval", [1, 4, 8, 16])
def test_a_question_puts_a_decision_off_by_a_token_whatever_the_interval(interval: int) -> None:
    stays_slow = f"events=[{{at_token: {SLOW}, link: [a, b-1], delay: 6 ms}}]"
    plan = wary_plan("workload.max_tokens=57", f"decisions.interval={interval}", stays_slow)
    run = simulated(replace(plan, decide=content))
    rows = [(row.step, row.event) for row in run.recorded.rows["decisions"] if row.event in ("decided", "explored")]
    explored = [step for step, event in rows if event == "explored"]
    assert 2 <= len(explored) <= 5
    assert all((step + 1, "decided") in rows for step in explored if step < rows[-1][0])
    assert all(later - earlier >= 8 for earlier, later in pairwise(explored)), "tokens are counted, not turns"


@pytest.mark.parametrize("interval", [1, 4])
def test_a_question_does_not_take_a_change_beyond_the_threshold_for_known(interval: int) -> None:
    changes = (
        f"events=[{{at_token: {SLOW}, link: [a, b-1], delay: 6 ms}}, {{at_token: 14, device: a, speed: 33 %}}]",
        *("decisions.threshold=0.2", f"decisions.interval={interval}"),
    )
    seen = list[float]()

    def watching(view: ClusterView, current: Placement | None) -> Placement:
        seen.append(float(view.flops_per_s[0]))
        return content(view, current)

    run = simulated(replace(wary_plan(*changes), decide=watching))
    rows = [(row.step, row.event) for row in run.recorded.rows["decisions"] if row.event in ("decided", "explored")]
    told = next(at for at, speed in enumerate(seen) if speed < 0.5 * seen[0])
    step, event = rows[told]
    assert event == "explored", "both are due"
    assert rows[told + 1] == (step + 1, "decided")


def test_memory_that_varies_puts_no_question_off() -> None:
    varies = "devices[1].memory_load={uniform: {low: 0 %, high: 20 %}, every: 1 ms}"
    assert moved_at(simulated(wary_plan(varies))) == moved_at(simulated(wary_plan()))
