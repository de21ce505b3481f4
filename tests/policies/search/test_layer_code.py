"""Machine code rules out only placements of one layer that the searches in Python do not find either."""

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, near_mesh, placements, scattered, shapes, uneven_mesh, with_workload

from edgeemu.placement.arrays import IntArray, PlacementArrays
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement
from edgeemu.policies.compiled.device_speeds import AllDevices, LayerWorks
from edgeemu.policies.compiled.layer_bounds import (
    LayerTimes,
    OneLayer,
    ends_could_pay,
    fill,
    joining_could_pay,
    layer_could_pay,
    ring_could_pay,
    stage_s,
    step_s,
    within,
)
from edgeemu.policies.compiled.layer_code import PayRules, layer_tables, make_ready, others_could_pay
from edgeemu.policies.compiled.tables import MoveSizes
from edgeemu.policies.search import undivided_moves
from edgeemu.policies.search.change_rule import LARGE, WORTH, Prices, Prospect
from edgeemu.policies.search.head_moves import could_gain
from edgeemu.policies.search.local_moves import join_layers, move_ends, move_runs
from edgeemu.policies.search.one_layer import RING, best_ring
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.search.undivided_moves import better_blocks, single_moves_s
from edgeemu.policies.view.cluster_view import ClusterView, NoBetterPlacement
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.outlook import Forecasts, Outlook
from edgeemu.policies.view.step_time import StepTimes
from edgeemu_kernels.shape import ModelShape

WIDE = ModelShape("wide", 1, 256, 16, 8, 16, 1024, 8192, 4096, activation="gelu")
N = 9  # more than can all have single blocks
TOKENS = st.sampled_from((1.0, 5.0, 40.0, 1e3, 1e6))


def seen(shape: ModelShape, seed: int, n: int = N) -> ClusterView:
    """A cluster while a sequence runs. Devices and links, memory, forecasts and where weights are: all by the seed."""
    random = np.random.default_rng(seed)
    mesh = near_mesh if random.random() < 0.5 else uneven_mesh
    view = oracle_view(mesh(n, seed), PhysicalCosts(shape), None, 7, 30)
    slowdowns = random.choice([1.0, 1.0, 1.1, 30.0], n)
    memory_bytes = np.full(n, 1 << 40) if random.random() < 0.5 else random.choice([0, 10_000, 1 << 40], n)
    some, numbers = random.permutation(n)[:2], random.uniform([[1.0], [0.5], [1.0]], [[50.0], [3.0], [60.0]], (3, 2))
    outlook = Outlook(np.sort(some), Forecasts(*numbers, np.ones((2, 2))))
    slowed = view.slowed(slowdowns, memory_bytes, outlook=outlook, weights_on_flash=bool(random.random() < 0.3))
    return with_workload(slowed, length=20)


def prospect_of(view: ClusterView, tokens: float, over: float | None = None) -> Prospect:
    return Prospect(view, over, 10, tokens, 2.0 * tokens)


def ways(view: ClusterView, prospect: Prospect, current: Placement) -> list[Placement]:
    """The placements before five decisions, one after the other, of which none is ruled out."""
    found = list[Placement]()
    with pytest.MonkeyPatch.context() as patch, suppress(NoBetterPlacement):
        patch.setattr(undivided_moves, "others_could_pay", lambda *_: True)
        for _ in range(5):
            after = better_blocks(view, prospect, current, list)
            found.append(current)
            current = after
    return found


@QUICK
@given(st.data(), shapes(max_layers=1) | st.just(WIDE), st.integers(0, 2**32), TOKENS, st.sampled_from([None, 8.0]))
def test_decisions_are_those_that_look_at_everything(
    data: st.DataObject, shape: ModelShape, seed: int, tokens: float, over: float | None
) -> None:
    make_ready()  # else nothing is ruled out
    view = seen(shape, seed)
    view = view.slowed(np.ones(N), np.full(N, 1 << 40)) if data.draw(st.booleans()) else view
    current, left = data.draw(placements(shape, N)), PlacementArrays.of(data.draw(placements(shape, N)), shape)
    prospect = prospect_of(view, tokens, over)
    for before in ways(view, prospect, current):
        found = better_blocks(view, prospect, before, lambda: [left])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(undivided_moves, "others_could_pay", lambda *_: True)
            assert found == better_blocks(view, prospect, before, lambda: [left])


def test_most_decisions_that_change_nothing_are_ruled_out() -> None:
    make_ready()
    kept, ruled_out = 0, 0
    for seed in range(60):
        view = seen(WIDE, seed)
        view = view.slowed(np.ones(N), np.full(N, 1 << 40), weights_on_flash=False)
        prospect = prospect_of(view, 1e3)
        for before, after in pairwise(ways(view, prospect, scattered(WIDE, N, seed))):
            layouts = [PlacementArrays.of(before, WIDE)]
            rules = PayRules(prospect.tokens, prospect.far_tokens, LARGE, WORTH)
            could = others_could_pay(layer_tables(view, prospect.ahead, 20 + 5, MoveCosts(view), layouts, rules))
            assert could or after == before
            kept, ruled_out = kept + (after == before), ruled_out + (not could)
    assert kept > 100
    assert ruled_out > 0.6 * kept


def test_each_bound_allows_what_its_search_finds() -> None:
    """On clusters and placements of many kinds; each search finds something, and each bound rules something out."""
    make_ready()  # else there are no tables
    found, ruled_out = np.zeros((2, 5), np.int64)
    for seed in range(600):
        random = np.random.default_rng(seed)
        n, shape = int(random.choice([4, 6, 9])), replace(WIDE, tied_embeddings=bool(random.random() < 0.5))
        view = seen(shape, seed, n)
        if seed % 3:
            view = view.slowed(np.ones(n), np.full(n, 1 << 40))
        prospect = prospect_of(view, float(10 ** random.uniform(0.0, 5.0)), random.choice([None, 8.0]))
        for each in ways(view, prospect, scattered(shape, n, seed))[:3]:
            current = PlacementArrays.of(each, shape)
            searched, allowed = (look(view, prospect, current) for look in (found_by_search, allowed_by_bounds))
            assert (allowed >= searched).all(), (seed, searched, allowed)
            found, ruled_out = found + searched, ruled_out + 1 - allowed
    assert (found > 20).all(), found
    assert (ruled_out > 20).all(), ruled_out


def test_a_ring_is_allowed_from_the_step_on_that_it_takes() -> None:
    make_ready()
    ruled_out = 0
    for seed in range(60):
        view = seen(WIDE, seed).slowed(np.ones(N), np.full(N, 1 << 40))
        prospect = prospect_of(view, float(10 ** (seed % 5)))
        current, costs = PlacementArrays.of(scattered(WIDE, N, seed), WIDE), MoveCosts(view)
        times, known = StepTimes(view, 20 + 5), filled(view, prospect, current)
        moves_s = single_moves_s(times, current, Prices.of(costs, prospect, 1.0))
        best = best_ring(view, times, np.inf, moves_s)
        assert known is not None
        assert best is not None
        assert moves_s is not None
        m, y, w, t = known
        moving_s = moves_s[range(4), [best.at(kind, 0) for kind in RING]].max()
        assert ring_could_pay(m, y, w, t, (best.step_s() + moving_s) * (1 + 1e-6))
        ruled_out += not ring_could_pay(m, y, w, t, 0.5 * best.step_s())
    assert ruled_out > 20, "the others have too many devices that are as fast"


def found_by_search(view: ClusterView, prospect: Prospect, current: PlacementArrays) -> IntArray:
    """Whether a run of layers, ends, a projection or feed-forward block, heads would move; whether there is a ring."""
    times, costs = StepTimes(prospect.ahead, 20 + 5), MoveCosts(view)

    def draft() -> PartialPlacement:
        return PartialPlacement.of(view, times, current)

    before_s, layers_s = draft().step_s(), draft().layers_s()
    prices = Prices.of(costs, prospect, before_s)
    below_s = (1 - WORTH) * before_s
    found = [
        move_runs(draft(), prices, layers_s),
        move_ends(draft(), prices),
        join_layers(draft(), prices),
        could_gain(draft(), WORTH * before_s),
        best_ring(view, times, below_s, single_moves_s(times, current, prices)) is not None,
    ]
    return np.array(found, np.int64)


def filled(
    view: ClusterView, prospect: Prospect, current: PlacementArrays
) -> tuple[OneLayer, MoveSizes, LayerWorks, LayerTimes] | None:
    """Tables of the functions of which machine code is made, with times filled in; None: the placement does not fit."""
    rules = PayRules(prospect.tokens, prospect.far_tokens, LARGE, WORTH)
    tables = layer_tables(view, prospect.ahead, 20 + 5, MoveCosts(view), [current], rules)
    if tables is None:
        return None
    m, y, v, w = (
        kind(*(np.ravel(field) if isinstance(field, np.ndarray) else field for field in table.values))
        for kind, table in zip((OneLayer, MoveSizes, AllDevices, LayerWorks), tables, strict=False)
    )
    t = LayerTimes(*np.zeros((4, m.n)), *np.zeros((2, 4 * m.n)), np.zeros(m.n), np.zeros(m.n, np.int64))
    fill(m, v, w, t)
    return m, y, w, t


def allowed_by_bounds(view: ClusterView, prospect: Prospect, current: PlacementArrays) -> IntArray:
    """Whether bounds allow what `found_by_search` looks for."""
    known = filled(view, prospect, current)
    if known is None:
        return np.ones(5, np.int64)
    m, y, w, t = known
    before_s = step_s(m, t, 0)
    assert before_s == pytest.approx(StepTimes(prospect.ahead, 20 + 5).step_s(current), rel=1e-12)
    allowed = [
        layer_could_pay(m, y, w, t, before_s),
        ends_could_pay(m, y, t, before_s),
        joining_could_pay(m, y, t, before_s),
        within(m, w, t, current.embed, int(current.proj[0]), stage_s(m, t, 0) - WORTH * before_s),
        ring_could_pay(m, y, w, t, (1 - WORTH) * before_s),
    ]
    return np.array(allowed, np.int64)


def test_nothing_is_ruled_out_that_is_not_bounded() -> None:
    """A placement that was left and is quicker, one that no longer fits, messages that keep processors busy."""
    make_ready()
    view = seen(WIDE, 1)
    view = view.slowed(np.ones(N), np.full(N, 1 << 40))
    first, second = sorted(
        (PlacementArrays.of(scattered(WIDE, n, 0), WIDE) for n in (1, N)), key=StepTimes(view).step_s
    )

    def could(view: ClusterView, *layouts: PlacementArrays) -> bool:
        no_move_pays = PayRules(1e-9, 1e-9, LARGE, 1.0)
        return others_could_pay(layer_tables(view, view, view.past, MoveCosts(view), layouts, no_move_pays))

    assert not could(view, first)
    assert not could(view, first, second)
    assert could(view, second, first)
    assert could(view.slowed(np.ones(N), np.zeros(N, np.int64)), first)
    busy = [replace(device, compute=replace(device.compute, message_s=1e-3)) for device in view.devices]
    assert could(replace(view, devices=tuple(busy)), first)
