"""A device that has less memory for a while refuses what would come then; processes and simulator alike."""

from collections.abc import Callable

import pytest
import uvloop
from support.clusters import cluster
from support.moving import assert_reference, make, reference_tokens
from support.watching import RecordedRun

from edgeemu.placement.blocks import head
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView, Refusal
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend

Deciding = Callable[[ClusterView, Placement | None], Placement]
ONE_PROMPT = "workload.prompts=[{tokens: 7}]"


def exchange(_view: ClusterView, current: Placement | None) -> Placement:
    """Two devices give each other all they hold: either has room for the one or the other, but both take more."""
    assert current is not None
    return Placement({block: {0: 0, 1: 2, 2: 1}[device] for block, device in current.owner.items()})


def heads_to(number: int) -> Deciding:
    def place(_view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        return current.moved([head(0, group) for group in range(4)], number)

    return place


def ran_twice(plan: Plan) -> tuple[RecordedRun, RecordedRun]:
    """With processes, whose text is the reference's, and simulated."""

    async def processes() -> RecordedRun:
        async with cluster(plan) as run:
            return await run(plan)

    real = uvloop.run(processes())
    assert_reference(real, plan, reference_tokens(plan))
    simulated = RecordedRun(plan, SimulatedBackend(plan))
    uvloop.run(simulated.run())
    return real, simulated


def outcomes(controller: RecordedRun) -> dict[int, str]:
    """By the step before which it was decided."""
    return {row.step: row.outcome for row in controller.migrations}


def squeezed_bytes() -> int:
    """Enough for any placement on the way, and not enough for two at once."""
    return max(page.total_bytes for page in make(ONE_PROMPT, decide=exchange).pages[1:]) + 1000


def assert_refused(controller: RecordedRun, steps: set[int], left_bytes: int) -> None:
    """At these steps, by the device that had too little; at the others everything moved."""
    made = outcomes(controller)
    assert made.keys() == set(range(1, 8))
    for step, outcome in made.items():
        if step in steps:
            assert outcome.startswith("aborted: b-1 is out of memory: incoming needs")
            assert f"of {left_bytes:,} B are free (held: cache" in outcome
        else:
            assert outcome == "committed"
    refused = [f"sequence 0, step {step}: {made[step].removeprefix('aborted: ')}" for step in sorted(steps)]
    assert controller.problems == refused


@pytest.mark.parametrize("mode", ["virtual", "realtime"])
def test_what_does_not_fit_after_an_event_is_refused_until_there_is_room_again(mode: str) -> None:
    left_bytes = squeezed_bytes()
    events = f"{{at_token: 3, device: b-1, memory: {left_bytes} B}}, {{at_token: 6, device: b-1, memory: 8 MiB}}"
    plan = make(ONE_PROMPT, f"time.mode={mode}", f"events=[{events}]", decide=exchange)
    real, simulated = ran_twice(plan)
    for made in (real, simulated):
        assert_refused(made, {3, 4, 5}, left_bytes)
        assert made.migrator.placement == plan.placement  # four exchanges
    assert outcomes(real) == outcomes(simulated)


def test_a_policy_is_told_what_was_refused_and_why_until_memory_changes() -> None:
    told: list[Refusal | None] = []

    def watchful(view: ClusterView, current: Placement | None) -> Placement:
        told.append(view.refused)
        return exchange(view, current)

    events = f"{{at_token: 3, device: b-1, memory: {squeezed_bytes()} B}}, {{at_token: 6, device: b-1, memory: 8 MiB}}"
    made = RecordedRun(plan := make(ONE_PROMPT, f"events=[{events}]", decide=watchful), SimulatedBackend(plan))
    uvloop.run(made.run())
    assert [refused is not None for refused in told] == [False, False, False, True, True, False, False]
    assert told[3] is not None
    assert told[3].reason.startswith("b-1 is out of memory: incoming needs")
    assert told[3].placement == exchange(plan.view, plan.placement)


def test_what_does_not_fit_beside_other_work_at_that_instant_is_refused() -> None:
    """The load comes by the timeline: between the decisions before tokens 2 and 3."""
    roomy = make(ONE_PROMPT, decide=exchange)
    left_bytes = squeezed_bytes()
    undisturbed = RecordedRun(roomy, SimulatedBackend(roomy))
    uvloop.run(undisturbed.run())
    second, third = (undisturbed.tokens[token].emulated_s for token in (1, 2))
    load = 1 - left_bytes / 200_000
    trace = f"[[0 s, 0], [{(second + third) / 2!r} s, {load!r}], [1 h, 0]]"
    alike = "gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 200 kB"
    loaded = f"{{name: b-1, {alike}, memory_load: {{trace: {trace}}}}}"
    first = "{name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}"
    plan = make(ONE_PROMPT, f"devices=[{first}, {loaded}, {{name: b-2, {alike}}}]", decide=exchange)
    real, simulated = ran_twice(plan)
    for made in (real, simulated):
        assert_refused(made, {3, 4, 5, 6, 7}, left_bytes)
        assert made.migrator.placement == plan.placement  # two exchanges
    assert outcomes(real) == outcomes(simulated)


def test_what_is_held_stays_and_grows_however_little_is_left() -> None:
    """The caches of a device with 1 kB get their rows; nothing goes to it any more, and what is there may leave it."""
    event = "events=[{at_token: 2, device: b-1, memory: 1 kB}]"
    held = make(ONE_PROMPT, event, decide=heads_to(1))
    assert held.pages[1].cache_bytes > 0
    for made in ran_twice(held):
        assert outcomes(made) == {1: "committed"}
        assert made.problems == []

    for made in ran_twice(make(ONE_PROMPT, event, "decisions.interval=7", decide=heads_to(1))):
        assert outcomes(made) == {}
        assert "step 7: b-1 would need" in made.problems[0]

    def away(_view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        return current.moved(current.on(1), 2)

    for made in ran_twice(make(ONE_PROMPT, event, "decisions.interval=4", decide=away)):
        assert outcomes(made) == {4: "committed"}
        assert made.problems == []
