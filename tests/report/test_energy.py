"""Energy in joules: by hand, in closed form against the simulator, and from the figures of a scenario."""

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, devices, placements, shapes, with_workload
from support.watts import scenario

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.cluster.links import Link
from edgeemu.cluster.topology import Line, Mesh, Star
from edgeemu.errors import RequestError
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.step_energy import missing_power, step_energy_j, token_energy_j
from edgeemu.report.energy import EnergyAccount, radio_energy
from edgeemu.report.energy import account as account_of
from edgeemu.report.facts import DeviceFacts
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario, to_yaml
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.steps import Step, roofline_durations

N = 4


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
    ends = [(source, target) for source, target in simulator.ends().T.tolist()]
    sent_bytes = {ends[connection]: size_bytes for connection, size_bytes in simulator.sent_bytes.items()}
    counted = account(cluster, token.sampled_s, busy_s, sent_bytes)
    assert counted.total_j is not None
    assert step_energy_j(seen, placement, past) == pytest.approx(counted.total_j, rel=1e-9)
    assert step_energy_j(with_workload(seen, length=past), placement) == pytest.approx(counted.total_j, rel=1e-9)


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
    drawn = [
        token_energy_j(with_workload(plan.view, concurrent=(15,) * others), scattered) for others in (1, 2, 40, 80)
    ]
    assert alone_j > drawn[0] > drawn[1] > drawn[2] == drawn[3]


# -- the sum, by hand -----------------------------------------------------------------------------------------------


def account(
    cluster: Cluster, span_s: float, busy_s: Mapping[int, Iterable[float]], sent: Mapping[tuple[int, int], int] | None
) -> EnergyAccount:
    devices = [DeviceFacts(d.name, d.memory_bytes, d.idle_w, d.busy_w) for d in cluster.devices]
    busy_by_name = {cluster.devices[index].name: math.fsum(times_s) for index, times_s in busy_s.items()}
    radio = None if sent is None else radio_energy(cluster, sent)
    return account_of(devices, span_s, busy_by_name, radio, missing_power(cluster.devices))


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
