"""Joules: by hand, in closed form against the simulator, of runs with processes and without, and within a budget."""

import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, devices, placements, shapes
from support.watching import Silent

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.cluster.links import Link
from edgeemu.cluster.topology import Line, Mesh, Star
from edgeemu.errors import InfeasibleError, RequestError
from edgeemu.placement.blocks import EMBED, all_blocks, ffn, head
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.step_energy import UnknownEnergyError, step_energy_j, token_energy_j
from edgeemu.report.energy import account
from edgeemu.run.ask_policy import first_decision, next_decision
from edgeemu.run.controller import Controller
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.run_scenario import run_scenario
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario, to_yaml
from edgeemu.scenario.scenario import Scenario
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.steps import Step, roofline_durations

N = 4

SCENARIO = """
name: watts
seed: 5
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 200, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB, power: {idle: 2 W, busy: 5 W}}
  - {name: b, count: 2, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB, power: {idle: 1 W, busy: 7 W}}
network:
  default: {bandwidth: 10 Mbit/s, delay: 1 ms, energy: {send: 40 nJ/bit, receive: 10 nJ/bit}}
policy: round-robin
workload:
  prompts: [{tokens: 7}, {tokens: 3}]
  max_tokens: 8
time: {mode: virtual}
decisions: {time: 0 ms}
"""


def scenario(*settings: str) -> Scenario:
    return parse_scenario(SCENARIO, "watts", settings)


def with_power(computes: list[Compute], chance: random.Random) -> Cluster:
    """Uneven in everything; links are each pair's own, and differ by direction."""
    powered = []
    for device in devices(computes):
        idle_w = chance.uniform(0.0, 5.0)
        powered.append(replace(device, idle_w=idle_w, busy_w=idle_w + chance.uniform(0.0, 10.0)))
    links = {
        (a, b): Link(
            chance.choice([1e5, 1e6, 1e8]),
            chance.choice([0.0, 1e-4, 2e-2]),
            send_j_per_bit=chance.uniform(0.0, 1e-6),
            receive_j_per_bit=chance.uniform(0.0, 1e-6),
        )
        for a in range(N)
        for b in range(N)
    }
    return Cluster("drawn", 0, tuple(powered), Mesh(N, lambda a, b: links[a, b]))


@QUICK
@given(st.data())
def test_a_step_draws_what_the_simulator_says(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    speeds = [(chance.uniform(1e6, 1e9), chance.uniform(1e6, 1e9), chance.choice([0.0, 1e-5, 1e-3])) for _ in range(N)]
    cluster = with_power([Compute(*speed) for speed in speeds], chance)
    placement = data.draw(placements(shape, N))
    costs, past = PhysicalCosts(shape), data.draw(st.integers(7, 30))
    seen = oracle_view(cluster, costs, None, 7, 40)
    simulator = Simulator(cluster, costs, roofline_durations([device.compute for device in seen.devices], costs))
    simulator.start(Step(0, 1, 1, past), compile_routes(placement, shape), 0.0)
    (token,) = simulator.tokens()
    busy_s: dict[int, list[float]] = defaultdict(list)
    for done in simulator.executions:
        busy_s[done.op.device].append(done.time.end_s - done.time.start_s)
    counted = account(cluster, token.sampled_s, busy_s, simulator.sent_bytes)
    assert counted.total_j is not None
    assert step_energy_j(seen, placement, past) == pytest.approx(counted.total_j, rel=1e-9)
    assert step_energy_j(replace(seen, length=past), placement) == pytest.approx(counted.total_j, rel=1e-9)


@QUICK
@given(st.data())
def test_the_middle_step_draws_the_mean_of_all(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    cluster = with_power([Compute(1e7, 1e7, 1e-4)] * N, chance)
    placement = data.draw(placements(shape, N))
    seen = oracle_view(cluster, PhysicalCosts(shape), None, 7, 40)
    every = [step_energy_j(seen, placement, past) for past in range(7, 39)]
    assert token_energy_j(seen, placement) == pytest.approx(sum(every) / len(every), rel=0.02)


def test_sequences_in_flight_share_the_waiting_until_a_device_is_always_busy() -> None:
    plan = make_plan(scenario())
    scattered = plan.placement
    alone_j = token_energy_j(plan.view, scattered)
    drawn = [token_energy_j(replace(plan.view, beside=(15,) * others), scattered) for others in (1, 2, 40, 80)]
    assert alone_j > drawn[0] > drawn[1] > drawn[2] == drawn[3]


# -- the sum, by hand -----------------------------------------------------------------------------------------------


def three(kind: type[Mesh | Line | Star], link: Link) -> Cluster:
    powered = tuple(replace(device, idle_w=2.0, busy_w=5.0) for device in devices([Compute(1e9, 1e9, 0.0)] * 3))
    if kind is Star:
        return Cluster("three", 0, powered, Star(3, lambda *_: link, on_channel=frozenset({0, 1, 2})))
    return Cluster("three", 0, powered, kind(3, lambda *_: link))


PRICED = Link(1e6, 0.0, send_j_per_bit=3e-6, receive_j_per_bit=1e-6)


def test_waiting_computing_and_sending_add_up() -> None:
    counted = account(three(Mesh, PRICED), 10.0, {1: [0.5, 1.5]}, {(0, 2): 1000})
    assert [spent.idle_j for spent in counted.devices] == [20.0] * 3
    assert [spent.busy_j for spent in counted.devices] == [0.0, 6.0, 0.0]
    assert [spent.radio_j for spent in counted.devices] == pytest.approx([0.024, 0.0, 0.008])
    assert counted.total_j == pytest.approx(66.032)
    assert counted.missing == ""


def test_who_relays_pays_and_an_access_point_is_no_device() -> None:
    relayed = account(three(Line, PRICED), 0.0, {}, {(0, 2): 1000})
    assert [spent.radio_j for spent in relayed.devices] == pytest.approx([0.024, 0.032, 0.008])
    through = account(three(Star, PRICED), 0.0, {}, {(0, 2): 1000})
    assert [spent.radio_j for spent in through.devices] == pytest.approx([0.024, 0.0, 0.008])


def test_what_is_missing_is_named_and_there_is_no_sum() -> None:
    cluster = three(Mesh, replace(PRICED, receive_j_per_bit=None))
    nowhere = account(cluster, 1.0, {}, {})
    assert nowhere.total_j == 6.0, "a link that nothing crosses needs no figure"
    crossed = account(cluster, 1.0, {}, {(0, 2): 1})
    assert crossed.total_j is None
    assert [spent.radio_j is None for spent in crossed.devices] == [False, False, True]
    assert "d0 to d2: give energy:" in crossed.missing
    without = Cluster("w", 0, devices([Compute(1e9, 1e9, 0.0)] * 9), Mesh(9, lambda *_: PRICED))
    unknown = account(without, 1.0, {}, {})
    assert unknown.total_j is None
    assert unknown.missing == "d0, d1, d2, d3, d4 and 4 more without idle or busy power: " + (
        "give power: {idle: 2 W, busy: 5 W}"
    )
    assert "did not end" in account(cluster, 1.0, {}, None).missing


# -- scenarios ------------------------------------------------------------------------------------------------------


def test_power_comes_from_the_scenario_else_from_the_profile() -> None:
    drawn = "{uniform: {low: 1 W, high: 2 W}}"
    made = scenario(
        "devices=[{name: pi, profile: raspberry-pi-4},"
        f" {{name: nano, profile: jetson-nano, power: {{idle: {drawn}}}}}]"
    )
    pi, nano = draw(made).devices
    assert (pi.idle_w, pi.busy_w) == (3.0, 7.2)
    assert nano.idle_w is not None
    assert 1.0 <= nano.idle_w <= 2.0
    assert nano.busy_w == 10.0
    with pytest.raises(RequestError, match="a draws 6 W when it is idle, and 5 W when it is busy"):
        draw(scenario("devices[0].power.idle=6 W"))


def test_energy_per_bit_comes_field_by_field_from_the_link_its_type_and_the_default() -> None:
    cluster = draw(
        scenario(
            "network.links=[{between: [a, b-1], type: wifi-4, energy: {send: 1 nJ/bit}},"
            " {from: b-1, to: b-2, energy: {receive: {uniform: {low: 1 nJ/bit, high: 2 nJ/bit}}}}]"
        )
    )
    paid = {(a, b): [hop.j_per_bit for hop in cluster.path(a, b).energies] for a, b in ((0, 1), (1, 0), (1, 2), (2, 1))}
    assert paid[0, 1] == paid[1, 0] == [1e-9, 4.27e-9]
    assert paid[2, 1] == [40e-9, 10e-9]
    assert paid[1, 2][0] == 40e-9
    assert 1e-9 <= (paid[1, 2][1] or 0.0) <= 2e-9


def test_a_type_without_figures_does_not_take_those_of_the_default() -> None:
    cluster = draw(scenario("network.links=[{between: [a, b-1], type: wifi-5}]"))
    assert cluster.j_per_bit(0, 1) is None
    assert cluster.j_per_bit(0, 2) == pytest.approx(50e-9)


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("devices[1].power.busy={lognormal: {low: 5 W, high: 9 W}}",),
        ("network.default.energy={send: {uniform: {low: 1 nJ/bit, high: 9 nJ/bit}}, receive: 2 nJ/bit}",),
        ("network.default=wifi-5", "devices[0].power={}"),
        ("network.links=[{between: [a, b], type: lte}]", "objective=energy", "energy_budget=3 kJ"),
        ("network.links=[{between: [a, b], type: wifi-5}, {from: a, to: b-1, energy: {send: 1 nJ/bit}}]",),
    ],
)
def test_a_resolved_scenario_draws_to_the_same_figures(changes: tuple[str, ...]) -> None:
    made = scenario(*changes)
    resolved = parse_scenario(to_yaml(resolve(made)), "again")
    assert draw(resolved) == draw(made)
    assert resolve(resolved) == resolved
    assert (resolved.objective, resolved.energy_budget) == (made.objective, made.energy_budget)


def test_energy_that_is_asked_for_and_cannot_be_reckoned_is_an_error_of_the_scenario() -> None:
    unknown = "devices[1].power={busy: 5 W}"
    make_plan(scenario(unknown))
    with pytest.raises(RequestError, match=r"energy cannot be computed: b-1, b-2 without idle or busy power") as caught:
        make_plan(scenario(unknown, "energy_budget=5 J"))
    assert caught.value.field == "--set energy_budget"
    with pytest.raises(RequestError) as caught:
        make_plan(scenario(unknown, "objective=energy"))
    assert caught.value.field == "--set objective"
    unpriced = "network.default={type: 5g}", "network.links=[{between: [a, b], type: lte}]"
    with pytest.raises(RequestError, match=r"energy per bit, b-1 to b-2, b-2 to b-1: give energy: {send: 5 nJ/bit"):
        make_plan(scenario(*unpriced, "objective=energy"))
    make_plan(scenario(*unpriced))


# -- runs -----------------------------------------------------------------------------------------------------------


class Shuffle:
    """Every time some blocks, of any kind, go to any device."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def __call__(self, view: ClusterView, current: Placement | None) -> Placement:  # noqa: ARG002
        assert current is not None
        moving = [block for block in sorted(current.owner) if self._draw.random() < 0.2]
        return Placement({**current.owner, **{block: self._draw.randrange(3) for block in moving}})


def shuffled(*changes: str) -> Plan:
    return replace(make_plan(scenario("migration.chunk=1 kB", *changes)), decide=Shuffle(3))


def controlled(plan: Plan, devices: ProcessBackend | SimulatedBackend) -> Controller:
    watcher = Silent()
    controller = Controller(plan, devices, watcher, watcher)
    uvloop.run(controller.run())
    return controller


@pytest.mark.parametrize("time", ["virtual", "realtime"])
def test_processes_send_what_the_simulator_says_parcels_included(time: str) -> None:
    """Paced devices count for themselves, without the tokens of their warm-up."""
    changes = ("migration.mode=pause", f"time.mode={time}")
    real = ProcessBackend(shuffled(*changes), Silent().phase)
    ran = controlled(shuffled(*changes), real)
    simulated = SimulatedBackend(shuffled(*changes))
    controlled(simulated.plan, simulated)
    moved_bytes = sum(row.bytes for row in ran.migrator.rows)
    assert moved_bytes > 0
    assert real.measured.sent_bytes == simulated.measured.sent_bytes
    assert sum((simulated.measured.sent_bytes or {}).values()) > moved_bytes


def test_a_background_copy_that_is_given_up_costs_what_was_sent_of_it() -> None:
    changes = ("migration.mode=precopy", "network.default.bandwidth=1 Mbit/s")
    real = ProcessBackend(shuffled(*changes), Silent().phase)
    ran = controlled(shuffled(*changes), real)
    simulated = SimulatedBackend(shuffled(*changes))
    controlled(simulated.plan, simulated)
    assert any(row.outcome == "aborted: the sequence ended" for row in ran.migrator.rows)
    assert real.measured.sent_bytes == simulated.measured.sent_bytes


@pytest.mark.parametrize("at_once", [1, 2])
def test_run_and_simulate_agree_to_the_last_bit(tmp_path: Path, at_once: int) -> None:
    made = scenario(f"workload.concurrency={at_once}")
    ran, simulated = (
        uvloop.run(run_scenario(made, policy=None, out=tmp_path, observer=Silent(), simulate=simulate)).summary
        for simulate in (False, True)
    )
    assert ran["energy_j"] == simulated["energy_j"]
    assert ran["energy"] == simulated["energy"]
    energy = ran["energy"]
    parts = [part for device in energy["by_device"].values() for part in device.values()]
    assert all(part > 0 for part in parts)
    assert ran["energy_j"] == pytest.approx(sum(parts))
    assert energy["per_token_j"] == pytest.approx(ran["energy_j"] / 16)
    assert energy["missing"] is None


def test_a_run_without_figures_says_what_is_missing(tmp_path: Path) -> None:
    made = scenario("devices[0].power={}", "network.default.energy={}")
    summary = uvloop.run(run_scenario(made, policy=None, out=tmp_path, observer=Silent(), simulate=True)).summary
    assert summary["energy_j"] is None
    assert summary["energy"]["per_token_j"] is None
    assert summary["energy"]["missing"].startswith("a without idle or busy power: give power")
    assert "links without energy per bit, a to b-1" in summary["energy"]["missing"]
    assert summary["energy"]["by_device"]["a"] == {"idle_j": None, "busy_j": None, "radio_j": None}


# -- the budget -----------------------------------------------------------------------------------------------------


def test_a_first_placement_above_the_budget_is_infeasible_with_figures() -> None:
    needs_j = token_energy_j(make_plan(scenario()).view, make_plan(scenario()).placement)
    make_plan(scenario(f"energy_budget={1.01 * needs_j} J"))
    for policy in ("round-robin", "layers", "greedy"):
        with pytest.raises(InfeasibleError, match=r"needs [\d.]+ m?J a token, [\d.]+ uJ allowed \(energy_budget\)"):
            make_plan(scenario("energy_budget=4 uJ"), policy)


def test_a_later_placement_above_the_budget_is_not_taken_unless_it_draws_less() -> None:
    plan = make_plan(scenario())
    home = Placement(dict.fromkeys(all_blocks(plan.model.shape), 0))
    some, more = home.moved([head(0, 0)], 1), home.moved([head(0, 0), head(1, 1), ffn(0)], 1)
    drawn = [token_energy_j(plan.view, placement) for placement in (home, some, more)]
    assert drawn[0] < drawn[1] < drawn[2]

    def decided(answer: Placement, current: Placement, budget_j: float) -> tuple[Placement, str]:
        view = replace(plan.view, energy_budget_j=budget_j)
        decision = next_decision(lambda *_: answer, view, current, 1.0)
        return decision.placement, decision.problem

    assert decided(some, home, drawn[1]) == (some, "")
    kept, why = decided(more, home, drawn[1])
    assert kept is home
    assert "the placement needs" in why
    assert decided(some, more, drawn[0]) == (some, ""), "better than what is there, though not good"
    assert decided(more, more, drawn[0]) == (more, "")
    with pytest.raises(InfeasibleError, match="energy_budget"):
        first_decision(lambda *_: more, replace(plan.view, energy_budget_j=drawn[1]), 1.0)


def test_energy_needs_figures_of_the_links_that_are_crossed() -> None:
    plan = make_plan(scenario("network.default.energy={}"))
    home = Placement(dict.fromkeys(all_blocks(plan.model.shape), 0))
    assert step_energy_j(plan.view, home) > 0
    with pytest.raises(UnknownEnergyError, match="no energy per bit on the way from"):
        step_energy_j(plan.view, home.moved([EMBED], 1))
    budgeted = replace(plan.view, energy_budget_j=1e3)
    assert "no energy per bit" in next_decision(lambda *_: plan.placement, budgeted, home, 1.0).problem


@pytest.mark.parametrize("knowledge", ["oracle", "measured"])
def test_a_policy_is_shown_the_figures_at_every_decision(knowledge: str) -> None:
    seen: list[ClusterView] = []

    def look(view: ClusterView, current: Placement | None) -> Placement:
        seen.append(view)
        assert current is not None
        return current

    plan = replace(make_plan(scenario(f"knowledge={knowledge}", "objective=energy", "energy_budget=1 kJ")), decide=look)
    controlled(plan, SimulatedBackend(plan))
    assert len(seen) == 14
    for view in (plan.view, *seen):
        assert (view.objective, view.energy_budget_j) == ("energy", 1000.0)
        assert [(device.idle_w, device.busy_w) for device in view.devices] == [(2.0, 5.0), (1.0, 7.0), (1.0, 7.0)]
        assert view.j_per_bit(0, 1) == pytest.approx(50e-9)
