"""Changes that take two migrations, because devices have room for the second only after the first."""

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, placements, view
from support.drawn_shares import EVERYONE, N, some_shares
from support.several import simulated

from edgeemu.cluster.devices import Compute
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import EMBED, LM_HEAD, layer_blocks
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.halfway import halfway, halfway_of_blocks
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_memory import refusing_devices
from edgeemu.policies.view.shares import ShareArrays
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario

SHAPE = replace(LLAMA, n_layers=4)
CHANGED = 12
FULL = f"""
model: smollm2-135m-instruct
devices:
  - {{name: laptop, gflops: 46.32 GFLOPS, mem_bandwidth: 10.645 GB/s, memory: 401 MiB}}
  - {{name: pi, count: 2, gflops: 21.76 GFLOPS, mem_bandwidth: 4.765 GB/s, memory: 379 MiB}}
  - {{name: nano, gflops: 53.71 GFLOPS, mem_bandwidth: 3.542 GB/s, memory: 520 MiB}}
  - {{name: phone, gflops: 21.45 GFLOPS, mem_bandwidth: 6.18 GB/s, memory: 276 MiB}}
network: {{default: {{bandwidth: 639.1 Mbit/s, delay: 141 us}}}}
sharding: {{divide: false}}
knowledge: oracle
migration: {{weights_on_flash: true, flash_bandwidth: 3 GB/s}}
events: [{{at_token: {CHANGED}, device: laptop, speed: 10.988 %}}]
workload: {{prompts: [{{tokens: 44, repeat: 3}}], max_tokens: 60, concurrency: 3}}
"""
EXCHANGED = """
model: smollm2-135m-instruct
devices:
  - {name: laptop, gflops: 40.77 GFLOPS, mem_bandwidth: 7.307 GB/s, memory: 365 MiB}
  - {name: pi, count: 2, gflops: 23.45 GFLOPS, mem_bandwidth: 6.253 GB/s, memory: 677 MiB}
  - name: nano
    gflops: 120.01 GFLOPS
    mem_bandwidth: 10.711 GB/s
    memory: 465 MiB
    load: {trace: [[0 s, 95 %], [1 s, 0 %]]}
network: {default: {bandwidth: 583.2 Mbit/s, delay: 902 us}}
migration: {weights_on_flash: true, flash_bandwidth: 3 GB/s}
workload: {prompts: [{tokens: 44}], max_tokens: 80}
"""


def cluster(memory_bytes: Sequence[int]) -> ClusterView:
    return view(SHAPE, memory_bytes, [Compute(1e9, 1e9, 0.0)] * len(memory_bytes), 8, 24)


def layers_on(*devices: int) -> Placement:
    """A placement of complete layers, with the model's ends on device 0."""
    ends = {EMBED: 0, LM_HEAD: 0}
    return Placement(
        ends | {block: device for layer, device in enumerate(devices) for block in layer_blocks(SHAPE, layer)}
    )


def roomy(*placements: Placement, slack: float = 1.0) -> ClusterView:
    """A view of devices that have just the memory for each of some placements, or so many times that."""
    without = cluster([2**40] * N)
    held = [without.held_bytes(each) for each in placements]
    return cluster([int(slack * max(each.get(device, 0) for each in held)) for device in range(N)])


def test_what_others_wait_for_leaves_first() -> None:
    old, new = layers_on(0, 1, 1, 1), layers_on(1, 2, 2, 2)
    seen = roomy(old, layers_on(0, 1, 2, 2), new)
    assert refusing_devices(seen, old, new) == [1], "device 1 is full until it has sent its layers"
    assert halfway(seen, old, new) == layers_on(0, 2, 2, 2)


def test_devices_that_exchange_all_they_hold_have_no_half() -> None:
    old, new = layers_on(0, 1, 1, 2), layers_on(0, 2, 2, 1)
    seen = roomy(layers_on(0, 1, 1, 2), layers_on(0, 2, 2, 1))
    assert refusing_devices(seen, old, new) == [1, 2]
    assert halfway(seen, old, new) is None


def test_what_has_room_at_once_has_no_half() -> None:
    assert halfway(cluster([2**40] * N), layers_on(0, 1, 1, 1), layers_on(1, 2, 2, 2)) is None


@given(old=some_shares(SHAPE), new=some_shares(SHAPE), number=st.integers(0, 2**32))
@QUICK
def test_both_migrations_have_room(old: ShareArrays, new: ShareArrays, number: int) -> None:
    before, after = (shares.placement(0, SHAPE, EVERYONE) for shares in (old, new))
    seen = roomy(before, after, slack=random.Random(number).uniform(1.0, 1.5))
    middle = halfway(seen, before, after)
    if middle is None:
        return
    middle.check(SHAPE, N)
    assert seen.holds(middle)
    assert not refusing_devices(seen, before, middle)
    assert not refusing_devices(seen, middle, after)
    assert all(device in (before.owner.get(block), after.owner.get(block)) for block, device in middle.owner.items())


@given(data=st.data(), number=st.integers(0, 2**32))
@QUICK
def test_undivided_blocks_have_the_same_half(data: st.DataObject, number: int) -> None:
    before, after = (data.draw(placements(SHAPE, N)) for _ in range(2))
    seen = roomy(before, after, slack=random.Random(number).uniform(1.0, 1.5))
    found = halfway_of_blocks(seen, *(PlacementArrays.of(each, SHAPE) for each in (before, after)))
    assert (None if found is None else found.placement(SHAPE)) == halfway(seen, before, after)


def test_a_pipeline_for_which_devices_are_too_full_is_reached_over_another() -> None:
    run = simulated(make_plan(parse_scenario(FULL, "full", ())))
    assert run.problems == []
    done_s = np.sort([row.emulated_s for row in run.tokens])
    early_s, late_s = np.median(np.diff(done_s[: 3 * CHANGED - 3])), np.median(np.diff(done_s[-60:]))
    assert late_s < 2 * early_s, "as slow as the laptop where it stays"


def test_full_devices_exchange_shares_over_a_third() -> None:
    """The nano, with the model's ends, is to have all layers of the laptop, which is to have the ends."""
    run = simulated(make_plan(parse_scenario(EXCHANGED, "exchanged", ())))
    assert run.problems == []
    last_s = run.tokens[-1].latency_s
    assert last_s is not None
    assert last_s == pytest.approx(58e-3, abs=1e-3), "it was 69 ms with the layers on the laptop"
