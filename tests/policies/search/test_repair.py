"""A repaired placement: survivors keep what they hold, and others that have room get what lost devices had."""

from collections.abc import Collection
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, scattered

from edgeemu.errors import InfeasibleError
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.repair import repaired
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_memory import refusing_devices
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario

N_DEVICES = 4
SCENARIO = """
model:
  shape: {n_layers: 3, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 99, max_context: 64}
devices: [{name: a, count: 4, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}]
network: {default: {bandwidth: 10 Mbit/s, delay: 1 ms}}
workload: {prompts: [{tokens: 5}], max_tokens: 9}
"""
VIEW = make_plan(parse_scenario(SCENARIO, "repaired")).view


def without(lost: Collection[int], back: Collection[int] = ()) -> ClusterView:
    """The view in which some devices were lost, of which some are there again."""
    devices = tuple(
        replace(device, memory_bytes=0) if index in set(lost) - set(back) else device
        for index, device in enumerate(VIEW.devices)
    )
    return replace(VIEW, devices=devices, lost=frozenset(lost))


@QUICK
@given(st.integers(0, 999), st.sets(st.integers(0, N_DEVICES - 1), min_size=1, max_size=N_DEVICES - 1))
def test_survivors_keep_what_they_have(seed: int, lost: set[int]) -> None:
    current = scattered(VIEW.costs.shape, N_DEVICES, seed)
    view = without(lost)
    found = repaired(view, current)
    found.check(VIEW.costs.shape, N_DEVICES)
    assert lost.isdisjoint(found.devices())
    assert all(found.owner[block] == device for block, device in current.owner.items() if device not in lost)
    assert refusing_devices(view, current, found) == []


@QUICK
@given(st.integers(0, 999))
def test_devices_that_are_there_again_take_what_they_have_room_for(seed: int) -> None:
    current, everyone = scattered(VIEW.costs.shape, N_DEVICES, seed), range(N_DEVICES)
    view = without(everyone, back={1, 2})
    found = repaired(view, current)
    found.check(VIEW.costs.shape, N_DEVICES)
    assert {1, 2}.issuperset(found.devices())
    assert refusing_devices(view, current, found) == []


def test_without_room_there_is_none() -> None:
    current = Placement(dict.fromkeys(scattered(VIEW.costs.shape, 1, 0).owner, 0))
    small = replace(without({0}), devices=tuple(replace(each, memory_bytes=1000) for each in VIEW.devices))
    with pytest.raises(InfeasibleError):
        repaired(small, current)
