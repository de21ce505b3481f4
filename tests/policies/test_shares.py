"""Layers that are divided in part: found from nothing, found where nothing else fits, and shifted later."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, divided_placements, view, with_links, with_workload
from support.share_changes import other_devices

from edgeemu.cluster.devices import Compute
from edgeemu.placement.blocks import Kind
from edgeemu.placement.placement import Placement, is_divided
from edgeemu.policies import lookahead, resource_aware
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_memory import refusing_devices
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.shape import ModelShape

WIDE = ModelShape("wide", 2, 256, 8, 4, 32, 4096, 64, 512)
FAST, SLOW = Compute(2e9, 1e9, 0.0), Compute(1e9, 5e8, 0.0)
MIB = 2**20


def three(memory_mib: float = 1024.0, computes: tuple[Compute, ...] = (FAST, SLOW, SLOW)) -> ClusterView:
    """Three devices with quick links and a wide model, of which a sequence is under way."""
    seen = with_links(view(WIDE, [int(memory_mib * MIB)] * 3, computes, 8, 200), 1e9, 1e-4)
    return replace(with_workload(seen, length=20), weights_on_flash=True, flash_bytes_per_s=1e9)


def units(placement: Placement, device: int) -> int:
    """Units of feed-forward blocks on a device."""
    return sum(block.kind is Kind.FFN and block.is_shard for block in placement.on(device))


def settled(seen: ClusterView) -> Placement:
    """A placement that lookahead keeps, from one of undivided blocks."""
    current = lookahead.place(with_workload(seen, length=0))
    while (found := lookahead.place(seen, current)) != current:
        current = found
    return current


def test_where_no_whole_block_fits_layers_are_divided() -> None:
    seen = with_workload(three(memory_mib=11), length=0)
    for place in (lookahead.place, resource_aware.place):
        found = place(seen)
        assert is_divided(found, seen.costs.shape.n_layers)
        assert seen.holds(found)
        assert place(three(memory_mib=11), found) is not None


@pytest.mark.parametrize("objective", ["latency", "energy"])
def test_shares_shift_away_from_a_device_that_slows_down(objective: str) -> None:
    devices = tuple(replace(device, idle_w=1.0, busy_w=2.0) for device in three().devices)
    seen = replace(three(), devices=devices, objective=objective, j_per_bit=lambda *_: 1e-9)
    current = settled(seen)
    assert is_divided(current, seen.costs.shape.n_layers)
    slower = replace(devices[0], compute=Compute(1e8, 5e7, 0.0))
    later = replace(seen, devices=(slower, *devices[1:]))
    moved = lookahead.place(later, current)
    assert units(moved, 0) < units(current, 0)
    assert later.holds(moved)
    assert not refusing_devices(later, current, moved)
    assert lookahead.place(later, moved) == moved


def test_a_divided_layer_is_joined_when_links_become_slow() -> None:
    seen = three()
    current = settled(seen)
    assert is_divided(current, seen.costs.shape.n_layers)
    assert not is_divided(lookahead.place(with_links(seen, 1e9, 0.5), current), seen.costs.shape.n_layers)


@QUICK
@given(data=st.data())
def test_other_devices_have_all_that_a_device_had(data: st.DataObject) -> None:
    placement, devices = data.draw(divided_placements(LLAMA, 3)), np.arange(3)
    base = ShareArrays.of(placement, LLAMA, devices)
    if base is None:
        return
    found = set(other_devices(base).keys())
    for names in ([1, 1, 2], [2, 1, 2], [0, 0, 2], [0, 2, 2], [0, 1, 0], [0, 1, 1], [1, 0, 2], [2, 1, 0], [0, 2, 1]):
        renamed = Placement({block: names[device] for block, device in placement.owner.items()})
        shares = ShareArrays.of(renamed, LLAMA, devices)
        assert shares is not None
        assert shares.normal().keys()[0] in found


def test_nothing_moves_where_nothing_has_changed() -> None:
    seen = three()
    current = settled(seen)
    assert lookahead.place(seen, current) is current


def test_a_device_that_has_lost_its_memory_is_relieved_of_shares() -> None:
    seen = three()
    current = settled(seen)
    devices = (seen.devices[0], replace(seen.devices[1], memory_bytes=2 * MIB), seen.devices[2])
    later = replace(seen, devices=devices)
    assert not later.holds(current)
    assert later.holds(lookahead.place(later, current))


def test_a_small_model_stays_whole() -> None:
    seen = with_links(view(LLAMA, [2**30] * 3, [FAST, SLOW, SLOW], 8, 60), 1e7, 5e-3)
    assert not is_divided(lookahead.place(seen), LLAMA.n_layers)
