"""Faults of a cluster: who and what the names of a scenario stand for, and random faults that nothing else changes."""

import pickle
from itertools import islice

import pytest

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.draw.resolve import resolve, resolved_yaml
from edgeemu.cluster.faults import Fault, FaultEvent, FaultKind, FaultPlan, RandomFaults
from edgeemu.cluster.links import Change
from edgeemu.run.plan import Rules
from edgeemu.scenario.load import parse_scenario
from edgeemu.scenario.scenario import Scenario

TEXT = """\
model:
  shape: {n_layers: 1, d_model: 8, n_heads: 2, n_kv_heads: 1, head_dim: 4, d_ff: 8, vocab_size: 9, max_context: 99}
devices:
  - {name: a, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 1 GiB}
  - {name: pi, count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 1 GiB}
  - {name: c, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 1 GiB}
network: {default: {bandwidth: 1 Mbit/s, delay: 1 ms}}
workload: {prompts: [{tokens: 3}], max_tokens: 40}
"""
EVERYTHING = (
    "{at: 3 s, device: pi, fault: crash}",
    "{at_token: 20, device: [c], fault: reboot, for: 30 s}",
    "{rate: 5 per hour, fault: reboot, for: 10 s}",
    "{rate: 5 per hour, device: pi, fault: reboot, for: 20 s}",
    "{rate: 1 per hour, link: [pi, c], fault: loss, loss: 30 %, for: 2 s}",
    "{at: 1 s, partition: [[], [pi-2, c]], for: 2 s}",
    "{at: 9 s, link: [a, pi], fault: stall}",
)


def scenario(*faults: str, text: str = TEXT, more: str = "") -> Scenario:
    return parse_scenario(f"{text}faults: [{', '.join(faults)}]\n{more}", "test")


def faults(*given: str, text: str = TEXT, more: str = "") -> FaultPlan:
    return draw(scenario(*given, text=text, more=more)).faults


def test_devices_of_a_fault_fail_together() -> None:
    crash, reboot = EVERYTHING[:2]
    assert faults(crash, reboot).events == (
        FaultEvent(Fault(FaultKind.CRASH, (1, 2), name="pi-1, pi-2"), at_s=3.0),
        FaultEvent(Fault(FaultKind.REBOOT, (3,), for_s=30.0, name="c"), at_token=20),
    )
    assert faults(reboot).at(20) == [faults(reboot).events[0].fault]
    assert faults("{at: 2 s, device: [c, pi-2], fault: join}").absent == {2, 3}


def test_each_link_of_a_fault_fails_by_itself_and_in_both_directions() -> None:
    stalled = faults(EVERYTHING[6]).events
    assert [event.fault.links for event in stalled] == [((0, 1), (1, 0)), ((0, 2), (2, 0))]
    assert [event.fault.name for event in stalled] == ["a – pi-1", "a – pi-2"]
    between = faults("{at: 1 s, link: [pi, pi], fault: loss, loss: 0.5}").events
    assert [event.fault for event in between] == [
        Fault(FaultKind.LOSS, links=((1, 2), (2, 1)), loss=0.5, name="pi-1 – pi-2")
    ]


def test_a_partition_is_all_links_between_its_groups() -> None:
    (event,) = faults(EVERYTHING[5]).events
    both_ways = {(i, j) for i in (0, 1) for j in (2, 3)} | {(j, i) for i in (0, 1) for j in (2, 3)}
    assert set(event.fault.links) == both_ways
    assert len(event.fault.links) == len(both_ways)
    assert (event.fault.kind, event.fault.name) == (FaultKind.PARTITION, "a, pi-1 | pi-2, c")
    three = faults("{at: 1 s, partition: [[a], [pi], [c]]}").events[0].fault
    assert len(three.links) == 2 * (2 + 1 + 2)


@pytest.mark.parametrize(
    ("network", "groups", "links"),
    [
        ("star", "[[], [pi-2, c]]", {(2, None), (3, None)}),
        ("star", "[[a, pi], [ap, c]]", {(0, None), (1, None), (2, None)}),
        ("line", "[[], [pi-2, c]]", {(1, 2)}),
        ("line", "[[a, pi-2], [pi-1, c]]", {(0, 1), (1, 2), (2, 3)}),
    ],
)
def test_a_partition_is_of_the_links_that_there_are(
    network: str, groups: str, links: set[tuple[int, int | None]]
) -> None:
    text = TEXT.replace("network: {", f"network: {{topology: {network}, ")
    (event,) = faults(f"{{at: 1 s, partition: {groups}}}", text=text).events
    found = set(event.fault.links)
    assert found == links | {(b, a) for a, b in links}


def test_at_random_each_device_and_each_link_has_a_process_of_its_own() -> None:
    random = faults(*EVERYTHING[2:5]).random
    assert [process.fault.devices for process in random] == [(0,), (1,), (2,), (3,), (1,), (2,), (), ()]
    assert [process.fault.links for process in random[6:]] == [((1, 3), (3, 1)), ((2, 3), (3, 2))]
    assert {process.rate_per_s for process in random[:6]} == {5 / 3600}
    assert len({process.seed for process in random}) == len(random)
    assert [process.fault.for_s for process in random] == [10.0] * 4 + [20.0] * 2 + [2.0] * 2
    everywhere = faults("{rate: 1 per hour, fault: down, for: 2 s}").random
    assert [process.fault.name for process in everywhere] == [
        *("a – pi-1", "a – pi-2", "a – c", "pi-1 – pi-2", "pi-1 – c", "pi-2 – c")
    ]


def test_random_faults_depend_on_the_seed_and_on_what_fails_alone() -> None:
    rebooting = "{rate: 5 per hour, device: [pi, c], fault: reboot, for: 10 s}"
    base = faults(rebooting).random
    for same in (
        faults(rebooting, more="policy: layers").random,
        faults("{rate: 9 per hour, device: a, fault: crash}", rebooting).random[1:],
        faults("{rate: 5 per hour, device: [c, pi], fault: reboot, for: 10 s}").random,
        tuple(replaced(process) for process in faults(rebooting, text=with_another_device()).random),
    ):
        assert same == base
    assert not {process.seed for process in faults(rebooting, more="seed: 1").random} & {p.seed for p in base}
    first_s = [next(process.waits_s()) for process in base]
    assert len(set(first_s)) == len(first_s)


def with_another_device() -> str:
    return TEXT.replace("devices:\n", "devices:\n  - {name: new, profile: raspberry-pi-5, memory: 1 GiB}\n")


def replaced(process: RandomFaults) -> RandomFaults:
    """Return a process whose device comes one earlier."""
    (device,) = process.fault.devices
    fault = Fault(process.fault.kind, (device - 1,), for_s=process.fault.for_s, name=process.fault.name)
    return RandomFaults(fault, process.rate_per_s, process.seed)


@pytest.mark.parametrize("network", ["mesh", "star", "line"])
def test_the_resolved_scenario_has_the_same_faults_and_stays_as_it_is(network: str) -> None:
    links = {"mesh": EVERYTHING, "star": EVERYTHING[:4] + EVERYTHING[5:6], "line": EVERYTHING[:4] + EVERYTHING[5:6]}
    text = TEXT.replace("network: {", f"network: {{topology: {network}, ")
    given = scenario(*links[network], text=text, more="recovery: {weights: pi-2}")
    once = resolve(given)
    assert draw(once) == draw(given)
    assert draw(once).faults
    assert resolve(once) == once
    assert parse_scenario(resolved_yaml(given, given.policy), given.name) == once
    assert Rules.of(once) == Rules.of(given)


def test_a_cluster_keeps_its_faults_and_is_equal_by_them() -> None:
    cluster = draw(scenario(*EVERYTHING))
    pickled: Cluster = pickle.loads(pickle.dumps(cluster))
    kept = [cluster.changed(Change((0,), 0.5), 1.0), cluster.still(2.0), pickled]
    assert all(each.faults == cluster.faults for each in kept)
    assert pickled == cluster == draw(scenario(*EVERYTHING))
    assert cluster != draw(scenario(*EVERYTHING[1:]))
    assert not draw(scenario()).faults


def test_rules_of_a_run_have_the_recovery_of_its_scenario() -> None:
    given = scenario(EVERYTHING[0], more="recovery: {caches: replicate, weights: c, heartbeat: {interval: 500 ms}}")
    assert Rules.of(given).recovery == ("replicate", 0.5, 3, 64, 3, 1)
    assert Rules.of(scenario(EVERYTHING[0])).recovery == ("reprefill", 1.0, 3, 64, None, 0)
    assert Rules.of(scenario()).recovery.caches == "none"
    assert len(list(islice(faults(EVERYTHING[2]).random[0].waits_s(), 20))) == 20
