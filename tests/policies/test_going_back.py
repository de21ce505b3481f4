"""Placements that a run has left: it is told of them, and returns to one where that pays."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, placements, view, with_links, with_workload
from support.several import make, simulated

from edgeemu.cluster.devices import Compute
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import head
from edgeemu.placement.placement import Placement
from edgeemu.policies import lookahead
from edgeemu.policies.search.change_rule import HORIZON, MARGIN, WORTH
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_time import migration_s
from edgeemu.policies.view.step_time import StepTimes
from edgeemu.run.decider import EARLIER

COMPUTES = [Compute(2e7, 3e7, 1e-5), Compute(5e6, 1e8, 1e-5), Compute(1e7, 1e7, 1e-5)]
STEPS = 64 + HORIZON


def total_s(seen: ClusterView, current: Placement, placement: Placement) -> float:
    """Time of the steps in which a move must pay, and of the migration."""
    step_s = StepTimes(seen, seen.past + HORIZON // 2).step_s(PlacementArrays.of(placement, LLAMA))
    return HORIZON / MARGIN * step_s + migration_s(seen, current, placement)


@given(data=st.data())
@QUICK
def test_no_answer_is_worse_than_going_back(data: st.DataObject) -> None:
    seen = with_workload(view(LLAMA, [2**40] * 3, COMPUTES, 8, 8 + STEPS), length=12)
    seen = replace(with_links(seen, 1e8, 1e-4), divide=False)
    current, left = data.draw(placements(LLAMA, 3)), data.draw(placements(LLAMA, 3))
    seen = replace(seen, earlier=(left,))
    found = lookahead.place(seen, current)
    before_s = StepTimes(seen, seen.past + HORIZON // 2).step_s(PlacementArrays.of(current, LLAMA))
    slack_s = HORIZON * WORTH * before_s if found is current else 1e-9
    assert total_s(seen, current, found) <= total_s(seen, current, left) + slack_s


def told_in(visited: list[int]) -> list[tuple[int, ...]]:
    """Placements, by their numbers, that a policy is told of at each decision of a run that goes through some."""
    plan = make("workload.prompts=[{tokens: 7}]", f"workload.max_tokens={len(visited) + 2}")
    every = [Placement(plan.placement.owner | {head(2, 0): n % 3, head(2, 1): n // 3}) for n in range(max(visited) + 1)]
    told, asked = [], iter(visited)

    def follow(seen: ClusterView, _current: Placement | None) -> Placement:
        told.append(tuple(every.index(other) for other in seen.earlier))
        return every[next(asked, visited[-1])]

    plan = replace(plan, placement=every[0], decide=follow)
    assert simulated(plan).problems == []
    return told


def test_a_policy_is_told_of_the_first_placement_and_of_the_last_few() -> None:
    told = told_in([1, 2, 3, 4, 5, 0, 6])
    assert told[:4] == [(), (0,), (0, 1), (0, 1, 2)]
    assert told[5] == (0, 2, 3, 4), "the first stays among them"
    assert len(told[5]) == EARLIER
    assert told[6] == (3, 4, 5), "not the current one"
    assert told[7] == (0, 3, 4, 5)
