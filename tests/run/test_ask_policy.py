"""A policy that fails, answers nonsense or takes too long changes nothing, and the reason is kept."""

import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from edgeemu.errors import InfeasibleError, RunError
from edgeemu.placement.blocks import EMBED, Kind, all_blocks, ffn, shards
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run import alarm
from edgeemu.run.ask_policy import first_decision, next_decision
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
model:
  shape:
    {n_layers: 1, d_model: 16, n_heads: 2, n_kv_heads: 2, head_dim: 8, d_ff: 32, vocab_size: 50, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 1 MiB}
  - {name: b, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 1 MiB}
network: {default: {bandwidth: 10 Mbit/s, delay: 1 ms}}
workload: {prompts: [{tokens: 4}], max_tokens: 4}
policy: single
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(parse_scenario(SCENARIO))


def answers(answer: object) -> Callable[[ClusterView, Placement | None], Placement]:
    def policy(_view: ClusterView, _current: Placement | None) -> Placement:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]  # that is the point

    return policy


def forever(_view: ClusterView, _current: Placement | None) -> Placement:
    while True:
        time.sleep(0.001)


def test_what_was_offered_is_used_when_the_limit_strikes(plan: Plan) -> None:
    shape, here = plan.model.shape, plan.placement.owner[EMBED]
    earlier, later = (Placement(dict.fromkeys(all_blocks(shape), device)) for device in (here, 1 - here))

    def improves(view: ClusterView, current: Placement | None) -> Placement:
        view.offer(earlier)
        view.offer(later)
        return forever(view, current)

    for decision in (first_decision(improves, plan.view, 0.02), next_decision(improves, plan.view, earlier, 0.02)):
        assert decision.placement == later
        assert decision.cut
        assert not decision.lost
        assert re.fullmatch(r"the policy did not answer within .* s; what it .* offered .* is used", decision.problem)
    nobody = replace(plan.view, devices=tuple(replace(device, memory_bytes=1000) for device in plan.view.devices))
    refused = next_decision(improves, nobody, earlier, 0.02)
    assert refused.placement is earlier
    assert "B and has 1,000 B" in refused.problem
    with pytest.raises(RunError, match="B and has 1,000 B"):
        first_decision(improves, nobody, 0.02)


def test_an_answer_in_time_counts_and_not_what_was_offered_before(plan: Plan) -> None:
    other = Placement(dict.fromkeys(all_blocks(plan.model.shape), 1 - plan.placement.owner[EMBED]))

    def thinks_better_of_it(view: ClusterView, current: Placement | None) -> Placement:
        view.offer(other)
        assert current is not None
        return current

    decision = next_decision(thinks_better_of_it, plan.view, plan.placement, 1.0)
    assert (decision.placement, decision.problem, decision.cut) == (plan.placement, "", False)


BAD = {
    "raises": (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    "is no placement": ({"embed": 0}, "the answer is a dict, not a Placement"),
    "forgets blocks": (Placement({EMBED: 0}), r"is on no device"),
    "knows a device that is not there": ("nowhere", "is on device 9, but there are 2 devices"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_wrong_answer_keeps_the_placement_and_the_reason(plan: Plan, what: str) -> None:
    answer, reason = BAD[what]
    if answer == "nowhere":
        answer = Placement(dict.fromkeys(all_blocks(plan.model.shape), 9))
    decision = next_decision(answers(answer), plan.view, plan.placement, 1.0)
    assert decision.placement is plan.placement
    with pytest.raises(RunError, match=reason):
        first_decision(answers(answer), plan.view, 1.0)
    assert decision.problem


def test_an_answer_that_does_not_fit_is_not_taken(plan: Plan) -> None:
    tiny = replace(plan.view, devices=tuple(replace(device, memory_bytes=1000) for device in plan.view.devices))
    other = Placement(dict.fromkeys(all_blocks(plan.model.shape), 1 - plan.placement.owner[EMBED]))
    decision = next_decision(answers(other), tiny, plan.placement, 1.0)
    assert decision.placement is plan.placement
    assert "B and has 1,000 B" in decision.problem


def test_a_block_may_be_divided_and_joined_on_the_way(plan: Plan) -> None:
    shape, at = plan.model.shape, plan.placement.owner[ffn(0)]
    owner = {block: device for block, device in plan.placement.owner.items() if block != ffn(0)}
    divided = Placement(owner | dict.fromkeys(shards(shape, Kind.FFN, 0), at))
    assert first_decision(answers(divided), plan.view, 1.0).placement == divided
    for current, asked in ((plan.placement, divided), (divided, plan.placement)):
        decision = next_decision(answers(asked), plan.view, current, 1.0)
        assert (decision.placement, decision.problem) == (asked, "")


def test_a_policy_that_never_answers_is_not_waited_for(plan: Plan) -> None:
    decision = next_decision(forever, plan.view, plan.placement, 0.05)
    assert decision.placement is plan.placement
    assert decision.problem == "the policy did not answer within 0.25 s"
    with pytest.raises(RunError, match="did not answer within"):
        first_decision(forever, plan.view, 0.05)


def test_a_limit_is_of_processor_time(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time in which it waits, or others have the processor, is not the policy's."""
    monkeypatch.setattr(alarm, "WAIT", 1000.0)  # however busy the host is

    def computes(_view: ClusterView, _current: Placement | None) -> Placement:
        while True:
            pass

    def waits(_view: ClusterView, _current: Placement | None) -> Placement:
        time.sleep(0.1)
        return plan.placement

    decision = next_decision(computes, plan.view, plan.placement, 0.05)
    assert decision.problem == "the policy did not answer within 0.05 s of processor time"
    assert next_decision(waits, plan.view, plan.placement, 0.05).problem == ""


def test_no_room_stays_the_policys_own_message(plan: Plan) -> None:
    with pytest.raises(InfeasibleError, match="nothing fits"):
        first_decision(answers(InfeasibleError("nothing fits")), plan.view, 1.0)


def test_a_good_answer_is_taken(plan: Plan) -> None:
    other = Placement(dict.fromkeys(all_blocks(plan.model.shape), 1 - plan.placement.owner[EMBED]))
    decision = next_decision(answers(other), plan.view, plan.placement, 1.0)
    assert decision.placement == other
    assert decision.problem == ""
    assert next_decision(answers(plan.placement), plan.view, plan.placement, 1.0).placement is plan.placement
