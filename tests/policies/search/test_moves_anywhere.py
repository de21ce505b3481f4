"""Moves of single blocks to any device: bounds rule out none that pays, and decisions are as without them."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, near_mesh, placements, scattered, seen_by, with_workload

from edgeemu.errors import InfeasibleError
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.policies import resource_aware
from edgeemu.policies.search.change_rule import Prices
from edgeemu.policies.search.local_moves import to_move, touched_s
from edgeemu.policies.search.moves_anywhere import could_pay_anywhere
from edgeemu.policies.search.partial_placement import ENDS, PartialPlacement
from edgeemu.policies.search.single_gains import MOVES
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.step_time import StepTimes
from edgeemu_kernels.shape import ModelShape

SEEDS = st.integers(0, 2**32)
SHAPES = st.sampled_from(
    [
        ModelShape("wide", n_layers, 256, 16, n_groups, 16, 1024, 8192, 4096, activation="gelu", tied_embeddings=tied)
        for n_layers, n_groups, tied in ((1, 16, False), (1, 4, True), (2, 4, False), (3, 8, True))
    ]
)


@QUICK
@given(st.data(), SHAPES, SEEDS, st.sampled_from((1, 10, 100, 1_000, 10_000)), st.integers(2, 6))
def test_no_move_that_pays_is_ruled_out(data: st.DataObject, shape: ModelShape, seed: int, tokens: int, n: int) -> None:
    seen = seen_by(n, shape, seed, tokens, on_flash=data.draw(st.booleans()), busy=data.draw(st.booleans()))
    old = PlacementArrays.of(data.draw(placements(shape, n)), shape)
    draft = PartialPlacement.of(seen, StepTimes(seen), old)
    costs = MoveCosts(seen)
    prices = Prices(costs, float(tokens))
    found = could_pay_anywhere(draft, prices, costs, draft.layers_s())
    tries = [(0, (kind,), ends) for kind, ends in zip(ENDS, found.ends, strict=True)]
    tries += [(layer, kinds, to) for layer, of in enumerate(found.layers) for kinds, to in zip(MOVES, of, strict=True)]
    for layer, kinds, worth in tries:
        for device in range(n):
            moved = to_move(draft, layer, kinds, device)
            if sum(each.kind is not Kind.HEAD for each in moved) < min(2, len(kinds)):
                assert not worth[device]
                continue
            before_s = touched_s(draft, layer, kinds[0])
            move_s = prices.move_s(moved, device, draft.meeting(moved, device))
            draft.move(moved, device)
            pays = prices.pays(before_s - touched_s(draft, layer, kinds[0]), move_s)
            fits = draft.room.total[device] <= draft.room.capacity[device]
            draft.move_back(moved, device)
            assert worth[device] or not (pays and fits)


@QUICK
@given(SHAPES, SEEDS, st.sampled_from((1, 5, 30, 100, 300)), st.integers(2, 6))
def test_decisions_are_those_of_trying_all_moves(shape: ModelShape, seed: int, tokens: int, n: int) -> None:
    before = with_workload(oracle_view(near_mesh(n, seed), PhysicalCosts(shape), None, 7, 30), interval_tokens=tokens)
    old = PlacementArrays.of(scattered(shape, n, seed), shape)
    seen = before.slowed(np.random.default_rng(seed).choice([1.0, 3.0, 30.0], n), before.memory_bytes)
    times = StepTimes(seen)
    found = resource_aware.improved(seen, times, PartialPlacement.of(seen, times, old)).layout(old)
    everything = np.ones((len(MOVES), shape.n_layers), np.bool_)
    with patch.multiple(resource_aware, MANY=0, could_pay=lambda *_: everything):
        tried = resource_aware.improved(seen, times, PartialPlacement.of(seen, times, old)).layout(old)
    assert found.same(tried)


@QUICK
@given(SHAPES, SEEDS, st.floats(0.3, 1.5), st.integers(1, 6))
def test_single_blocks_are_placed_as_with_all_heads(shape: ModelShape, seed: int, share: float, n: int) -> None:
    """With much memory or little: what makes room for heads moves single blocks."""
    seen = seen_by(n, shape, seed, 1, on_flash=False)
    alone = seen_by(1, shape, seed, 1, on_flash=False)
    whole = MemoryHeadroom.of(alone, PlacementArrays.of(resource_aware.place(alone), shape)).total[0]
    room = (share * whole * np.random.default_rng(seed).uniform(0.5, 1.0, n)).astype(np.int64).tolist()
    devices = (replace(device, memory_bytes=memory) for device, memory in zip(seen.devices, room, strict=True))
    seen = replace(seen, devices=tuple(devices))
    found = [singles_of(seen, singles_only=singles_only) for singles_only in (False, True)]
    assert found[0] == found[1]


def singles_of(seen: ClusterView, *, singles_only: bool) -> tuple[object, ...] | None:
    """Devices of single blocks, placed from nothing; None where nothing is found."""
    try:
        found = resource_aware.first(seen, StepTimes(seen), singles_only=singles_only)
    except InfeasibleError:
        return None
    return found.embed, found.lm_head, found.proj.tolist(), found.ffn.tolist()
