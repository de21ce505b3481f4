"""Decisions rule out early only what cannot pay: the result is that of looking at everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, busy_mesh, near_mesh, placements, shapes, uneven_mesh, with_workload

from edgeemu.placement.arrays import FloatArray, PlacementArrays
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.policies import resource_aware
from edgeemu.policies.search import one_layer
from edgeemu.policies.search.head_moves import could_gain, resplit, stages
from edgeemu.policies.search.head_split import best_split, finish, slot_prices, slots
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.step_time import StepTimes
from edgeemu_kernels.shape import ModelShape

N = 4
# With more groups than devices, so that heads can go to all of them.
WIDE = [
    ModelShape("wide", n_layers, 256, 16, n_groups, 16, 1024, 8192, 4096, activation="gelu")
    for n_layers, n_groups in ((1, 16), (2, 8), (5, 4))
]
SEEDS = st.integers(0, 2**32)
TOKENS = st.sampled_from((1, 10, 100, 1_000, 10_000))


def seen_from(shape: ModelShape, seed: int, interval_tokens: int = 1) -> ClusterView:
    seen = oracle_view(uneven_mesh(N, seed), PhysicalCosts(shape), None, 7, 30)
    return with_workload(seen, length=20, interval_tokens=interval_tokens)


@pytest.mark.parametrize("shape", WIDE)
def test_resource_aware_makes_every_move_of_single_blocks_that_pays(shape: ModelShape) -> None:
    """Devices slow down, and the more steps a move has to pay, the more of them do."""
    moved = 0
    for seed in range(12):
        before = oracle_view(near_mesh(N, seed), PhysicalCosts(shape), None, 7, 30)
        old = PlacementArrays.of(resource_aware.place(before), shape)
        slowdowns = np.random.default_rng(seed).choice([1.0, 3.0, 30.0], N)
        slowed = before.slowed(slowdowns, before.memory_bytes)
        for interval_tokens in (1.5 ** np.arange(12)).astype(int).tolist():
            seen = with_workload(slowed, interval_tokens=interval_tokens)
            times = StepTimes(seen)
            found = resource_aware.improved(seen, times, PartialPlacement.of(seen, times, old)).layout(old)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(resource_aware, "_some_single_could_pay", lambda *_: True)
                everything = resource_aware.improved(seen, times, PartialPlacement.of(seen, times, old)).layout(old)
            assert found.same(everything), (seed, interval_tokens)
            moved += (found.proj != old.proj).any() or (found.ffn != old.ffn).any()
    assert moved > 20


@QUICK
@given(st.data(), st.sampled_from(WIDE), SEEDS, TOKENS)
def test_heads_move_as_from_a_list_of_all_slots(data: st.DataObject, shape: ModelShape, seed: int, tokens: int) -> None:
    seen = seen_from(shape, seed)
    old, times, costs = PlacementArrays.of(data.draw(placements(shape, N)), shape), StepTimes(seen), MoveCosts(seen)
    draft = PartialPlacement.of(seen, times, old)
    for layer, stage in enumerate(stages(draft, costs, tokens, range(shape.n_layers))):
        counts = draft.groups[layer]
        lines = finish(times, stage.source, stage.gather)
        prices = slot_prices(times, stage.source, stage.gather, lines, np.arange(N), shape.n_groups)  # [N, n_groups]
        found = resplit(draft, layer, stage, costs, tokens, around=True)
        there_is_room = slots(shape.n_groups) <= (counts + draft.room.groups_room(layer))[:, None]  # [N, n_groups]
        prices = np.where(there_is_room, prices, np.inf)
        expected = from_all_slots(prices, counts.tolist(), stage.floor_s, costs, tokens)
        if expected == counts.tolist():  # then without devices that the latest reaches only over slow links
            sent_s = seen.links.row(stage.latest, costs.link_bits[Kind.HEAD])  # [N]
            next_s = lines.at(counts + 1, slice(None))  # [N]
            far = tokens * (stage.latest_s - np.maximum(stage.floor_s, next_s)) <= sent_s  # [N]
            spare = (next_s < stage.limit_s) & (draft.room.groups_room(layer) > 0)  # [N]
            if spare.any() and far[np.where(spare, next_s, np.inf).argmin()]:
                prices[far[:, None] & (slots(shape.n_groups) > counts[:, None])] = np.inf
                expected = from_all_slots(prices, counts.tolist(), stage.floor_s, costs, tokens)
        assert found.counts.tolist() == expected


def from_all_slots(prices: FloatArray, counts: list[int], floor_s: float, costs: MoveCosts, tokens: float) -> list[int]:
    """The counts after the number of moves that gains most, each from the latest slot to the earliest free one."""
    slots = [(price_s, device, k) for device, row in enumerate(prices.tolist()) for k, price_s in enumerate(row)]
    taken = sorted((slot for slot in slots if slot[2] < counts[slot[1]]), key=lambda slot: (-slot[0], slot[1:]))
    free = sorted(slot for slot in slots if slot[2] >= counts[slot[1]])
    moved = [(a, b) for (late_s, a, _), (early_s, b, _) in zip(taken, free, strict=False) if early_s < late_s]
    best, best_net_s = counts, 0.0
    for m in range(1, len(moved) + 1):
        after = list(counts)
        for source, target in moved[:m]:
            after[source] -= 1
            after[target] += 1
        last_s = max(free[m - 1][0], taken[m][0] if m < len(taken) else 0.0)
        gain_s = max(floor_s, taken[0][0]) - max(floor_s, last_s)
        net_s = tokens * gain_s - costs.total_s([(Kind.HEAD, *pair) for pair in moved[:m]])
        if net_s > best_net_s * (1 + 1e-9):
            best, best_net_s = after, net_s
    return best


@QUICK
@given(st.data(), SEEDS)
def test_heads_are_ruled_out_from_the_gain_of_the_best_split_on(data: st.DataObject, seed: int) -> None:
    shape = WIDE[0]
    seen = seen_from(shape, seed)
    old, times = PlacementArrays.of(data.draw(placements(shape, N)), shape), StepTimes(seen)
    draft = PartialPlacement.of(seen, times, old)
    best = best_split(times, draft.embed, int(draft.proj[0]), MemoryHeadroom(seen), 0)
    assert best is not None
    before_s = draft.step_s()
    draft.resplit(0, best.counts)
    gain_s = before_s - draft.step_s()
    draft = PartialPlacement.of(seen, times, old)
    assert gain_s <= 0.0 or could_gain(draft, gain_s * (1 - 1e-6))
    if draft.embed == draft.proj[0]:  # else outputs that queue behind x can make the best split slower than the bound
        assert not could_gain(draft, max(gain_s * (1 + 1e-6), 1e-6 * before_s))


@QUICK
@given(shapes(max_layers=1), SEEDS, st.booleans(), st.floats(0.0, 1e-2))
def test_no_ring_below_a_limit_is_ruled_out(shape: ModelShape, seed: int, moves: bool, move_s: float) -> None:
    seen = seen_from(shape, seed)
    times, random = StepTimes(seen), np.random.default_rng(seed)
    moves_s = move_s * random.random((4, N)) if moves else None
    found = one_layer.best_ring(seen, times, np.inf, moves_s)
    assert found is not None
    at = [found.at(kind, 0) for kind in one_layer.RING]
    moving_s = 0.0 if moves_s is None else moves_s[range(4), at].max()
    total_s = found.step_s() + moving_s
    again = one_layer.best_ring(seen, times, total_s * (1 + 1e-6), moves_s)
    assert again is not None
    assert again.layout(None).same(found.layout(None))
    assert one_layer.best_ring(seen, times, total_s * (1 - 1e-6), moves_s) is None


@QUICK
@given(st.data(), shapes(max_layers=5), SEEDS)
def test_times_that_a_draft_keeps_are_those_of_what_it_has_now(
    data: st.DataObject, shape: ModelShape, seed: int
) -> None:
    seen = seen_from(shape, seed)
    times = StepTimes(seen)
    draft = PartialPlacement.of(seen, times, PlacementArrays.of(data.draw(placements(shape, N)), shape))
    layers, somewhere = st.integers(0, shape.n_layers - 1), st.integers(0, N - 1)
    for _ in range(3):
        fresh = PartialPlacement.of(seen, times, draft.layout(None))
        assert [draft.layer_s(layer) for layer in range(shape.n_layers)] == [
            fresh.layer_s(layer) for layer in range(shape.n_layers)
        ]
        kind = data.draw(st.sampled_from((Kind.EMBED, Kind.PROJ, Kind.FFN)))
        draft.put(kind, data.draw(layers), data.draw(somewhere))
        elsewhere = PlacementArrays.of(data.draw(placements(shape, N)), shape).counts(N)
        draft.resplit(data.draw(layers), elsewhere[0])


@QUICK
@given(st.data(), shapes(max_layers=6), SEEDS, st.booleans())
def test_no_placement_takes_less_than_its_lower_bound(
    data: st.DataObject, shape: ModelShape, seed: int, busy: bool
) -> None:
    cluster = busy_mesh(N, seed) if busy else uneven_mesh(N, seed)
    seen = oracle_view(cluster, PhysicalCosts(shape), None, 7, 30)
    times, layout = StepTimes(seen), PlacementArrays.of(data.draw(placements(shape, N)), shape)
    assert times.keeps_busy == busy
    assert 0.0 < times.least_step_s(layout) <= times.step_s(layout)
