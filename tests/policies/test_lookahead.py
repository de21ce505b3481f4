"""First placements of lookahead are simulated before the run; when policies are asked again; pipelines in flight."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, placements, view, with_links, with_workload
from support.one_sequence import predict
from support.watching import RecordedRun

from edgeemu.cluster.devices import Compute
from edgeemu.cluster.draw.cluster import draw
from edgeemu.errors import RequestError
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement
from edgeemu.policies import lookahead, mdi
from edgeemu.policies.search import pipeline_moves
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.step_time import StepTimes
from edgeemu.policies.view.still import changed_by_more
from edgeemu.run.make_plan import make_plan, make_rehearsal
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import load_scenario, parse_scenario
from edgeemu.timeline.steps import OperationRecord, roofline_durations

ROOMY = 2**40
SLOWDOWN = Path(__file__).parents[2] / "scenarios" / "slowdown.yaml"
SCENARIO = """
seed: 4
model:
  shape:
    {n_layers: 8, d_model: 64, n_heads: 4, n_kv_heads: 4, head_dim: 16, d_ff: 128, vocab_size: 200, max_context: 99}
devices:
  - {name: a, count: 3, gflops: 1 GFLOPS, mem_bandwidth: 50 MB/s, memory: 64 MiB}
network:
  default: {bandwidth: 100 Mbit/s, delay: 1 ms}
policy: lookahead
decisions: {time: 0 ms}
workload: {prompts: [{tokens: 8}, {tokens: 8}, {tokens: 8}, {tokens: 8}, {tokens: 8}, {tokens: 8}], max_tokens: 12}
time: {mode: virtual}
"""


@cache
def plan_of(*settings: str, name: str | None = None) -> Plan:
    """Made once for all tests that ask for it: a first placement of several in flight takes a second."""
    return make_plan(parse_scenario(SCENARIO, "first", settings), name)


def simulated(plan: Plan) -> RecordedRun:
    controller = RecordedRun(plan, SimulatedBackend(plan))
    uvloop.run(controller.run())
    return controller


def makespan_s(controller: RecordedRun) -> float:
    return max(row.emulated_s for row in controller.tokens)


def test_one_sequence_stays_together_and_three_make_a_pipeline() -> None:
    assert len(plan_of().placement.devices()) == 1
    assert len(plan_of("workload.concurrency=3").placement.devices()) == 3


@pytest.mark.parametrize("concurrency", [1, 2, 3, 6])
@pytest.mark.parametrize("other", ["mdi", "edgeshard-latency", "edgeshard-throughput", "single", "layers"])
def test_no_other_kind_is_faster(concurrency: int, other: str) -> None:
    theirs = simulated(plan_of(f"workload.concurrency={concurrency}", name=other))
    assert lookaheads_makespan_s(concurrency) <= 1.02 * makespan_s(theirs)


@cache
def lookaheads_makespan_s(concurrency: int) -> float:
    """Simulated once for all that it is compared with."""
    return makespan_s(simulated(plan_of(f"workload.concurrency={concurrency}")))


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_rehearsal_is_how_the_run_begins(concurrency: int) -> None:
    """The rehearsal of a run that is no longer than a rehearsal equals it to the last bit."""
    asked = ("workload.max_tokens=6", f"workload.concurrency={concurrency}")
    plan = plan_of(*asked, "workload.prompts=" + str([{"tokens": 8}] * concurrency).replace("'", ""), name="mdi")
    played = make_rehearsal(plan.scenario, plan.cluster, plan.computes, plan.view, plan.requests)(plan.placement)
    assert played is not None
    made = simulated(plan)
    sequences = [[row for row in made.tokens if row.sequence == n] for n in range(concurrency)]
    waited_s = [times.start_s - times.arrival_s for times in plan.predictions()]
    took_s = [rows[-1].emulated_s - (rows[0].emulated_s - rows[0].latency_s) for rows in sequences]
    each_s = [(took - waited) / 6 for took, waited in zip(took_s, waited_s, strict=True)]
    assert played.latency_s == pytest.approx(sum(each_s) / len(each_s), rel=1e-9)
    assert played.throughput_tok_s == pytest.approx(concurrency / played.latency_s)


def test_a_rehearsal_knows_nothing_of_what_will_happen() -> None:
    happens = (
        "devices[0].load={uniform: {low: 0 %, high: 90 %}, every: 10 ms}",
        "events=[{at: 1 ms, device: a-2, speed: 5 %}]",
    )
    calm, eventful = plan_of(name="mdi"), plan_of(*happens, name="mdi")
    at_start = calm.view.devices
    views = (calm.view, replace(eventful.view, devices=at_start))
    played = [
        make_rehearsal(plan.scenario, plan.cluster, plan.computes, seen, plan.requests)(calm.placement)
        for plan, seen in zip((calm, eventful), views, strict=True)
    ]
    assert played[0] == played[1]


def test_what_is_offered_holds_and_the_last_is_the_answer() -> None:
    plan = plan_of("workload.concurrency=3")
    offered: list[Placement] = []
    rehearse = make_rehearsal(plan.scenario, plan.cluster, plan.computes, plan.view, plan.requests)
    answer = lookahead.place(replace(plan.view, offer=offered.append, rehearse=rehearse))
    assert offered[-1] == answer
    assert len(offered) > 1
    assert all(map(plan.view.holds, offered))


def test_a_program_that_is_too_large_is_not_played() -> None:
    plan = plan_of(name="mdi")
    rehearse = make_rehearsal(plan.scenario, plan.cluster, plan.computes, plan.view, plan.requests)
    assert replace(rehearse, lengths=list(rehearse.lengths) * 500, concurrency=3000)(plan.placement) is None


def test_candidates_are_complete_and_those_that_are_chosen_fit() -> None:
    tight = [f"devices[0].memory={room} KiB" for room in (700, 900, 1800)]
    for setting in tight:
        plan = plan_of(setting, "workload.concurrency=3", name="layers")
        for propose in lookahead.PROPOSERS:
            for candidate in propose(plan.view):
                candidate.check(plan.model.shape, 3)
        assert plan.view.holds(lookahead.place(plan_of(setting, "workload.concurrency=3", name="layers").view))


# Later decisions, with several sequences under way


@given(data=st.data())
@QUICK
def test_the_busiest_device_is_what_the_simulator_says(data: st.DataObject) -> None:
    computes = [Compute(data.draw(st.floats(1e7, 1e9)), data.draw(st.floats(1e7, 1e9)), 1e-5) for _ in range(3)]
    seen = with_links(with_workload(view(LLAMA, [ROOMY] * 3, computes, 8, 24), length=12), 1e15, 1e-3)
    placement = data.draw(placements(LLAMA, 3))
    times = StepTimes(seen)
    busy_s = [0.0] * 3
    program = compile_routes(placement, LLAMA)
    cluster = plan_of(name="single").cluster
    simulated = predict(
        cluster, PhysicalCosts(LLAMA), program, roofline_durations(computes, PhysicalCosts(LLAMA)), 12, 2
    )
    step: list[OperationRecord] = [done for done in simulated.executions if done.step.step == 1]
    for op, _, time, *_ in step:
        busy_s[op.device] += time.end_s - time.start_s
    assert pipeline_moves.busiest_s(times, PlacementArrays.of(placement, LLAMA)) == pytest.approx(max(busy_s), rel=1e-9)


def test_a_device_that_slows_down_gets_less_of_the_pipeline() -> None:
    made = plan_of("workload.concurrency=3")
    slower = tuple(
        replace(device, compute=Compute(1e9, 10e6, 0.0)) if n == 1 else device
        for n, device in enumerate(made.view.devices)
    )
    seen = with_workload(replace(made.view, devices=slower), length=12, cached=36)
    moved = lookahead.place(seen, made.placement)
    assert moved is not made.placement
    assert len(moved.on(1)) < len(made.placement.on(1))
    assert lookahead.place(seen, moved) is moved, "and stays there"
    assert lookahead.place(with_workload(made.view, length=12, cached=36), made.placement) is made.placement


def slowdown_with(event: str, policy: str) -> Plan:
    """Change something at a token of the example. No first decision knows of it: it is made once for all changes."""
    scenario = load_scenario(SLOWDOWN, [f"events=[{{at_token: 9, {event}}}]", "workload.max_tokens=30"])
    return replace(slowdown(policy), scenario=scenario, cluster=draw(scenario))


@cache
def slowdown(policy: str) -> Plan:
    return make_plan(load_scenario(SLOWDOWN, ["events=[]", "workload.max_tokens=30"]), policy)


@pytest.mark.parametrize(
    "event",
    ["link: [laptop, nano], delay: 20 ms", "link: [laptop, nano], bandwidth: 1 Mbit/s", "device: nano, speed: 4 %"],
)
def test_a_search_that_moves_heads_out_and_back_is_not_confused(event: str) -> None:
    made = simulated(slowdown_with(event, "lookahead"))
    assert len(made.decision_s) > 3
    assert made.problems == []


def test_the_first_placement_of_the_demonstration_is_one_that_adapts() -> None:
    """Shares leave a device that gets slow: within five tokens the text goes on at a good rate."""
    made = simulated(slowdown_with("device: laptop, speed: 33 %", "lookahead"))
    assert made.migrations
    assert max(row.latency_s for row in made.tokens[15:]) < 0.06  # of which a decision is charged 15 ms


@pytest.mark.parametrize("policy", ["lookahead", "resource-aware"])
@pytest.mark.parametrize("event", ["laptop, memory: 100 MiB", "phone, memory: 90 MiB", "nano, memory: 150 MiB"])
def test_what_a_device_that_lost_memory_has_to_send_is_not_refused(event: str, policy: str) -> None:
    """Nothing goes to the device meanwhile."""
    made = simulated(slowdown_with(f"device: {event}", policy))
    assert len(made.decision_s) > 3
    assert made.problems == []


FEW_LAYERS = (  # enough for the link between two of the three devices to matter, however layers are divided
    "model.shape.n_layers=4",
    "workload.prompts=[{tokens: 8}]",
    "network.default={bandwidth: 1 Gbit/s, delay: 100 us}",
)


@pytest.mark.parametrize("link", ["bandwidth: 2 Mbit/s", "delay: 20 ms"])
@pytest.mark.parametrize(("divide", "start"), [("true", "at: 0 s"), ("false", "at: 0 s"), ("false", "at_token: 0")])
def test_the_first_placement_sees_links_as_they_are_at_the_start(link: str, divide: str, start: str) -> None:
    """A link that is bad from the beginning on is worth as little as one that was never better."""
    asked = (*FEW_LAYERS, f"sharding.divide={divide}")
    event = plan_of(*asked, f"events=[{{{start}, link: [a-1, a-2], {link}}}]")
    given = plan_of(*asked, f"network.links=[{{between: [a-1, a-2], {link}}}]")
    assert event.placement == given.placement
    assert event.placement != plan_of(*asked).placement


# When policies are asked


def changed(seen: ClusterView, **values: float) -> ClusterView:
    first = seen.devices[0]
    compute = replace(first.compute, flops_per_s=values.get("flops_per_s", first.compute.flops_per_s))
    memory = int(values.get("memory_bytes", first.memory_bytes))
    return replace(seen, devices=(replace(first, compute=compute, memory_bytes=memory), *seen.devices[1:]))


def test_a_change_is_that_of_any_device_or_link() -> None:
    before = view(LLAMA, [1000] * 2, [Compute(1e9, 1e9, 0.0)] * 2, 8, 24)
    slower = changed(before, flops_per_s=0.8e9)
    link = replace(before, observed={(0, 1): (1.0, 1.1)})
    for one, other, share in ((before, slower, 0.25), (slower, before, 0.25), (before, link, 0.1)):
        assert changed_by_more(one, other, 0.999 * share)
        assert not changed_by_more(one, other, 1.001 * share), "either way alike"
    assert changed_by_more(before, changed(before, memory_bytes=0), 100)
    both = [replace(before, observed={(0, 1): (1.5, 1.1)}), replace(before, observed={(0, 1): (1.5, 1.1)})]
    assert not changed_by_more(before, before, 0.0)
    assert not changed_by_more(*both, 0.0)


@pytest.mark.parametrize(("threshold", "count"), [("0", 89), ("1 %", 2), ("50 %", 2)])
def test_with_a_threshold_a_policy_is_asked_when_something_has_changed_or_after_a_while(
    threshold: str, count: int
) -> None:
    asked = ("workload.max_tokens=90", "workload.prompts=[{tokens: 8}]", f"decisions.threshold={threshold}")
    assert len(simulated(plan_of(*asked)).decision_s) == count
    slower = (*asked, "decisions.smoothing=1", "events=[{at_token: 40, device: a-1, speed: 80 %}]")
    more = 1 if threshold == "1 %" else 0
    assert len(simulated(plan_of(*slower)).decision_s) == count + more


def test_a_threshold_is_for_measurements() -> None:
    with pytest.raises(RequestError, match=r"decisions.threshold: is for what is measured"):
        plan_of("knowledge=oracle", "decisions.threshold=1 %")


def test_several_sequences_go_on_while_a_policy_is_asked() -> None:
    """As long as nothing moves, decisions that take no time change nothing."""
    stays: Callable[[ClusterView, Placement | None], Placement] = lambda seen, current: current or mdi.place(seen)  # noqa: E731
    plan = plan_of("workload.concurrency=3", name="mdi")
    asked = simulated(replace(plan, decide=stays))
    assert len(asked.decision_s) > 10
    assert [row.emulated_s for row in asked.tokens] == [row.emulated_s for row in simulated(plan).tokens]
