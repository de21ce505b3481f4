"""Memory as arrays agrees with the page of each device, to the byte."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, SHAPES, placements, scattered, shapes, view, with_workload

from edgeemu.cluster.devices import Compute
from edgeemu.placement.arrays import PlacementArrays, assign_all_groups, assign_groups
from edgeemu.placement.blocks import Kind, all_blocks, ffn, head, proj
from edgeemu.placement.memory import usages
from edgeemu.policies.view.blocks_refused import refuses
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom, union_fits
from edgeemu.policies.view.migration_memory import refusing_devices
from edgeemu.policies.view.migration_time import MoveCosts, migration_s

N = 4


def some_view(shape_index: int = 0, memory_bytes: int = 2**40) -> ClusterView:
    return view(SHAPES[shape_index], [memory_bytes] * N, [Compute(1e9, 1e9, 1e-4)] * N, 9, 30)


@QUICK
@given(st.data())
def test_totals_are_the_pages(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    placement = data.draw(placements(shape, N))
    concurrent = data.draw(st.sampled_from([(), (30,), (24, 17, 3)]))
    seen = with_workload(view(shape, [2**40] * N, [Compute(1e9, 1e9, 0.0)] * N, 9, 30), concurrent=concurrent)
    pages = [usage.page().total_bytes for usage in usages(placement, seen.costs, N, 9, 30, concurrent)]
    assert pages == [usage.page().total_bytes for usage in seen.usages(placement)]
    assert MemoryHeadroom.of(seen, PlacementArrays.of(placement, shape)).total.tolist() == pages


@QUICK
@given(st.integers(0, 2), st.integers(0, 2**32))
def test_adding_and_removing_one_by_one_comes_to_the_same(which: int, seed: int) -> None:
    seen, chance = some_view(which), random.Random(seed)
    shape = seen.costs.shape
    placement = scattered(shape, N, seed)
    blocks = list(all_blocks(shape))
    chance.shuffle(blocks)
    room = MemoryHeadroom(seen)
    for block in blocks:
        device = placement.owner[block]
        if block.kind is Kind.HEAD:
            room.add_groups(block.layer, np.bincount([device], minlength=N))
        else:
            announced = room.with_single(block.kind)[device]
            room.add_single(block.kind, device)
            assert room.total[device] == announced
    assert room.total.tolist() == MemoryHeadroom.of(seen, PlacementArrays.of(placement, shape)).total.tolist()
    gone = [head(0, 0), proj(0), ffn(1)]
    for block in gone:
        if block.kind is Kind.HEAD:
            room.remove_groups(0, placement.owner[block], 1)
        else:
            room.remove_single(block.kind, placement.owner[block])
    kept = MemoryHeadroom.of(seen, PlacementArrays.of(placement, shape))
    for block in gone:
        if block.kind is Kind.HEAD:
            kept.groups[0, placement.owner[block]] -= 1
        else:
            kept.singles[block.kind][placement.owner[block]] -= 1
    kept.recount()
    assert room.total.tolist() == kept.total.tolist()


@QUICK
@given(st.integers(0, 2), st.integers(0, 2**32), st.integers(4_000, 60_000))
def test_as_many_groups_fit_as_the_page_says(which: int, seed: int, memory_bytes: int) -> None:
    seen = some_view(which, memory_bytes)
    shape = seen.costs.shape
    placement = scattered(shape, N, seed)
    held = usages(placement, seen.costs, N, 9, 30)
    room = MemoryHeadroom.of(seen, PlacementArrays.of(placement, shape))
    for group in range(shape.n_groups):  # layer 0 has still to be placed
        device = placement.owner[head(0, group)]
        held[device].remove(head(0, group))
        room.remove_groups(0, device, 1)
    for device in range(N):
        fitting = 0
        while fitting < shape.n_groups and seen.fits(held[device], head(0, fitting), device):
            held[device].add(head(0, fitting))
            fitting += 1
        assert room.groups_room(0)[device] == fitting
        if fitting > 1:  # what is there already counts
            room.add_groups(0, np.eye(N, dtype=np.int64)[device])
            assert room.groups_room(0)[device] == fitting - 1
            room.remove_groups(0, device, 1)


def test_a_swap_needs_room_for_both() -> None:
    seen = some_view()
    shape = seen.costs.shape
    old = PlacementArrays.of(scattered(shape, N, 1), shape)
    new = PlacementArrays(old.embed, old.lm_head, old.heads, old.ffn, old.proj)  # proj and ffn change places
    need = int(MemoryHeadroom.of(seen, old).total.max())
    tight = view(shape, [need] * N, [Compute(1e9, 1e9, 0.0)] * N, 9, 30)
    assert MemoryHeadroom.of(tight, old).fits()
    assert not union_fits(tight, old, new)
    assert union_fits(seen, old, new)
    assert union_fits(tight, old, old)


@QUICK
@given(st.data(), st.integers(4_000, 60_000))
def test_no_device_refuses_a_migration_for_which_there_is_room(data: st.DataObject, memory_bytes: int) -> None:
    """And its time is the same, however it is told; ends of a tied model that meet share a table on their way too."""
    shape = data.draw(shapes())
    seen = view(shape, [memory_bytes] * N, [Compute(1e9, 1e9, 0.0)] * N, 9, 30)
    seen = replace(seen, weights_on_flash=data.draw(st.booleans()))
    old, new = (data.draw(placements(shape, N)) for _ in range(2))
    before, after = (PlacementArrays.of(placement, shape) for placement in (old, new))
    if MemoryHeadroom.of(seen, before).fits() and union_fits(seen, before, after):
        assert refusing_devices(seen, old, new) == []
    assert MoveCosts(seen).migration_s(before, after) == pytest.approx(migration_s(seen, old, new))


@QUICK
@given(st.data())
def test_devices_refuse_what_they_refuse_one_by_one(data: st.DataObject) -> None:
    """At any place of the sequence, and where steps continue until the switch, for which caches must have room."""
    shape, some_tokens = data.draw(shapes()), st.integers(1, 30)
    memory_bytes = data.draw(st.lists(st.integers(4_000, 60_000), min_size=N, max_size=N))
    seen = view(shape, memory_bytes, [Compute(1e9, 1e9, 0.0)] * N, 9, 30)
    concurrent = data.draw(st.sampled_from([(), (30,), (24, 17, 3)]))
    seen = with_workload(seen, concurrent=concurrent, length=data.draw(some_tokens), cached=data.draw(some_tokens))
    seen = replace(seen, precopy=data.draw(st.booleans()), weights_on_flash=data.draw(st.booleans()))
    old, new = (data.draw(placements(shape, N)) for _ in range(2))
    before, after = (PlacementArrays.of(placement, shape) for placement in (old, new))
    assert np.flatnonzero(refuses(seen, before, after)).tolist() == refusing_devices(seen, old, new)


def test_groups_stay_where_they_can() -> None:
    old = np.array([0, 0, 0, 1, 1, 2])
    assert assign_groups(np.array([1, 3, 1, 1]), old).tolist() == [0, 1, 3, 1, 1, 2]
    assert assign_groups(np.array([0, 6, 0, 0]), None).tolist() == [1] * 6


@given(st.data())
def test_groups_of_all_layers_are_assigned_as_those_of_each(data: st.DataObject) -> None:
    owners = st.lists(st.integers(0, 4), min_size=6, max_size=6)
    old, new = (np.array(data.draw(st.lists(owners, min_size=3, max_size=3))) for _ in range(2))
    counts = np.stack([np.bincount(row, minlength=5) for row in new])
    each = [assign_groups(*layer).tolist() for layer in zip(counts, old, strict=True)]
    assert assign_all_groups(counts, old).tolist() == each
