"""Pipelines in the order of devices' speed: the vectorised program against its plainest form, to the last bit."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, SLOW, view

from edgeemu.cluster.devices import Compute
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.policies.search.pipeline_programs import alike_devices
from edgeemu.policies.search.pipeline_stages import Stage, StageCosts, merged
from edgeemu.policies.search.speed_order import in_order_of_speed
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.outlook import STAYS

MBIT_S = 1e6


def drawn(seed: int, n_devices: int, n_layers: int, *, kinds: int) -> ClusterView:
    """Devices of so many kinds of speed and sizes, with memory for few layers each, on uneven links."""
    chance = random.Random(seed)
    shape = replace(LLAMA, n_layers=n_layers)
    base = view(shape, [1] * n_devices, [Compute(1e9, 1e9, 0.0)] * n_devices, 8, 24)
    totals = StageCosts(base).total_bytes
    most = 2 * max(2, n_layers // n_devices)
    computes = [Compute(chance.uniform(1e7, 1e9), chance.uniform(1e7, 1e9), 1e-5) for _ in range(kinds)]
    sizes = [totals[True, True][min(n_layers, chance.randint(0, most))] for _ in range(kinds)]
    sizes += [0, totals[False, False][-1], totals[False, True][0]]  # not there; all layers; the output matrix alone
    links = {(a, b): chance.choice([0.1, 1.0, 30.0]) * MBIT_S for a in range(n_devices) for b in range(n_devices)}
    if chance.random() < 0.3:
        links = dict.fromkeys(links, MBIT_S)
    devices = tuple(DeviceView(f"d{n}", chance.choice(computes), chance.choice(sizes)) for n in range(n_devices))
    matrix = LinkMatrix.of_pairs(n_devices, lambda a, b: links[a, b], lambda *_: 1e-3)
    return replace(base, devices=devices, links=matrix, source=chance.randrange(n_devices))


def plainly_in_order(costs: StageCosts, source: int) -> list[Stage] | None:
    """g(j, m) = min over k before j, i < m of max(g(k, i), link from k to j, time of elements i to m on j)."""
    n = costs.n_elements
    order = [source, *sorted(set(range(costs.view.n_devices)) - {source}, key=lambda d: (float(costs.layer_s[d]), d))]
    best_s = {(0, end): float(costs.segments_s(source)[0, end]) for end in range(n + 1)}
    before: dict[tuple[int, int], tuple[int, int]] = {}
    for j, device in enumerate(order[1:], start=1):
        segments_s = costs.segments_s(device)
        for m in range(n + 1):
            ways = [
                (max(best_s[k, i], costs.occupied_s(order[k], device), float(segments_s[i, m])), k, i)
                for k in range(j)
                for i in range(n + 1)
            ]
            best_s[j, m], *before[j, m] = min(ways)
    last, end = min(range(len(order)), key=lambda j: best_s[j, n]), n
    if best_s[last, n] == np.inf:
        return None
    found = []
    while last:
        k, i = before[last, end]
        found.append(Stage(order[last], i, end))
        last, end = k, i
    return [Stage(source, 0, end), *reversed(found)]


@given(seed=st.integers(0, 2**32), n_devices=st.integers(1, 6), n_layers=st.integers(1, 9), kinds=st.integers(1, 6))
@SLOW
def test_the_program_in_the_order_of_speed_is_its_plainest_form(
    seed: int, n_devices: int, n_layers: int, kinds: int
) -> None:
    seen = drawn(seed, n_devices, n_layers, kinds=kinds)
    costs = StageCosts(seen)
    assert in_order_of_speed(costs, seen.source, range(n_devices)) == plainly_in_order(costs, seen.source)


@given(seed=st.integers(0, 2**32))
@SLOW
def test_arrays_of_devices_are_what_each_device_has_alone(seed: int) -> None:
    base = drawn(seed, 6, 5, kinds=3)
    slower = base.slowed(np.array([1.0, 1.3, 2.7, 1.0, 9.9, 3.3]), base.memory_bytes // 2, outlook=STAYS)
    for seen in (base, slower):
        costs, devices = StageCosts(seen), np.array([4, 0, 5, 2])
        for lm_head in (False, True):
            alone = [costs.room(d, lm_head=lm_head) for d in devices.tolist()]
            assert costs.rooms(devices, lm_head=lm_head).tolist() == alone
        assert costs.all_until_s(devices).tolist() == [costs.until_s(d).tolist() for d in devices.tolist()]
        occupied_s = [[costs.occupied_s(a, b) for b in devices.tolist()] for a in devices.tolist()]
        assert costs.all_occupied_s(devices).tolist() == occupied_s


@pytest.mark.parametrize("devices", [[1, 1, 1, 1, 1, 1], [2, 2, 0, 1, 1, 1], [0, 1, 1, 2, 2, 2]])
def test_stages_are_the_same_placement_as_arrays(devices: list[int]) -> None:
    costs = StageCosts(drawn(1, 3, 4, kinds=2))
    stages = merged(devices)
    expected = PlacementArrays.of(costs.placement(stages), costs.view.costs.shape)
    assert costs.layout(stages).same(expected)


@given(seed=st.integers(0, 2**32), kinds=st.integers(1, 3))
@SLOW
def test_devices_are_grouped_by_what_they_are_and_by_their_links(seed: int, kinds: int) -> None:
    seen = drawn(seed, 6, 3, kinds=kinds)
    rows = [matrix.block(np.arange(6), np.arange(6)) for matrix in (seen.links.s_per_bit, seen.links.delay_s)]

    def same(a: int, b: int) -> bool:
        mine, other = seen.devices[a], seen.devices[b]
        order = np.arange(6)
        order[[a, b]] = b, a
        swapped = all((row[order[:, None], order] == row).all() for row in rows)
        return (mine.compute, mine.memory_bytes) == (other.compute, other.memory_bytes) and swapped

    groups: list[list[int]] = []
    for device in range(6):
        known = (g for g in groups if seen.source not in (device, g[0]) and same(g[0], device))
        group = next(known, None)
        if group is None:
            groups.append(group := [])
        group.append(device)
    assert alike_devices(seen, seen.source, range(6)) == groups
