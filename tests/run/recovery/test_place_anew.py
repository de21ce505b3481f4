"""Prices of what lost devices had: what a policy is told that its restoration takes."""

from dataclasses import replace

import pytest

from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.placement import Placement
from edgeemu.placement.shipments import weight_bytes
from edgeemu.policies.search.expected_gain import expected_gain
from edgeemu.policies.view.migration_time import migration_s
from edgeemu.run.make_plan import make_plan
from edgeemu.run.recovery.place_anew import with_restoration, without
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 99, max_context: 64}
devices: [{name: a, count: 3, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}]
network: {default: {bandwidth: 10 Mbit/s, delay: 1 ms}}
workload: {prompts: [{tokens: 5}], max_tokens: 9}
migration: {flash_bandwidth: 4 MB/s}
"""
VIEW = make_plan(parse_scenario(SCENARIO, "restored")).view
BLOCKS = sorted(all_blocks(VIEW.costs.shape))
CURRENT = Placement({block: number % 2 for number, block in enumerate(BLOCKS)})  # of device 0 and 1


def test_what_a_device_gets_again_comes_from_its_storage() -> None:
    """Device 0 was lost, and is there again; device 2 holds nothing."""
    view = with_restoration(VIEW, {0}, store=None)
    lost = [block for block in BLOCKS if CURRENT.owner[block] == 0]
    read_s = sum(weight_bytes(block, view.costs) for block in lost) / 4e6
    assert migration_s(view, CURRENT, CURRENT) == pytest.approx(read_s)
    assert expected_gain(view, CURRENT, CURRENT).migration_s == pytest.approx(read_s)
    shared = Placement({**CURRENT.owner, **dict.fromkeys(lost[::2], 2)})
    assert migration_s(view, CURRENT, shared) < 0.8 * read_s
    assert migration_s(replace(view, lost=frozenset()), CURRENT, CURRENT) == 0.0


def test_errors_name_devices_that_are_not_there() -> None:
    view = without(VIEW, {1})
    told = str(view.infeasible(BLOCKS[0], view.usages(Placement(dict.fromkeys(BLOCKS, 0)))))
    assert "a-2: not there" in told
    assert "a-1: not there" not in told
