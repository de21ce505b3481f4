"""Shortcuts of resource-aware: bounds of gains rule out no move that pays, and heads are placed as by all scores."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, near_mesh, placements, scattered, seen_by, with_links, with_workload

from edgeemu.errors import InfeasibleError
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.policies import resource_aware
from edgeemu.policies.search import score_search, single_gains
from edgeemu.policies.search.change_rule import Prices
from edgeemu.policies.search.local_moves import to_move, touched_s
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.search.score_search import NothingFoundError, Search
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
        ModelShape("wide", n_layers, 256, 16, n_groups, 16, 1024, 8192, 4096, activation="gelu")
        for n_layers, n_groups in ((1, 16), (4, 2), (5, 4), (6, 8))
    ]
)


@QUICK
@given(st.data(), SHAPES, SEEDS, st.sampled_from((1, 10, 100, 1_000, 10_000)), st.integers(2, 6))
def test_no_move_that_pays_is_ruled_out(data: st.DataObject, shape: ModelShape, seed: int, tokens: int, n: int) -> None:
    seen = seen_by(n, shape, seed, tokens, on_flash=data.draw(st.booleans()), busy=data.draw(st.booleans()))
    times, costs = StepTimes(seen), MoveCosts(seen)
    draft, target = (
        PartialPlacement.of(seen, times, PlacementArrays.of(data.draw(placements(shape, n)), shape)) for _ in range(2)
    )
    prices, layers_s = Prices(costs, float(tokens)), draft.layers_s()
    worth = single_gains.could_pay(draft, target, prices, layers_s)
    assert worth.shape == (len(MOVES), shape.n_layers)
    after_s = single_gains.least_around_s(draft, target, layers_s)
    moves_s = single_gains.least_moves_s(draft, target, costs)
    for which, kinds in enumerate(MOVES):
        for layer in range(shape.n_layers):
            device = target.at(kinds[0], layer)
            moved = to_move(draft, layer, kinds, device)
            if sum(each.kind is not Kind.HEAD for each in moved) < min(2, len(kinds)):
                assert np.isinf(after_s[which, layer])
                continue
            before_s, move_s = touched_s(draft, layer, kinds[0]), prices.move_s(moved, device)
            draft.move(moved, device)
            exact_s = touched_s(draft, layer, kinds[0])
            draft.move_back(moved, device)
            assert after_s[which, layer] <= exact_s * (1 + 1e-12)
            assert moves_s[which, layer] <= move_s * (1 + 1e-12)
            assert worth[which, layer] or not prices.pays(before_s - exact_s, move_s)


@QUICK
@given(SHAPES, SEEDS, st.sampled_from((1, 5, 30, 100, 300)), st.integers(2, 6))
def test_decisions_are_those_of_trying_all_moves(shape: ModelShape, seed: int, tokens: int, n: int) -> None:
    """The placement changes while moves are tried; what is near a change is tried as well."""
    before = with_workload(oracle_view(near_mesh(n, seed), PhysicalCosts(shape), None, 7, 30), interval_tokens=tokens)
    old = PlacementArrays.of(scattered(shape, n, seed), shape)
    slowdowns = np.random.default_rng(seed).choice([1.0, 3.0, 30.0], n)
    seen = before.slowed(slowdowns, before.memory_bytes)
    times = StepTimes(seen)
    found = resource_aware.improved(seen, times, PartialPlacement.of(seen, times, old)).layout(old)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resource_aware, "could_pay", lambda *_: np.ones((len(MOVES), shape.n_layers), np.bool_))
        everything = resource_aware.improved(seen, times, PartialPlacement.of(seen, times, old)).layout(old)
    assert found.same(everything)


@pytest.mark.parametrize(
    ("moves", "near"),
    [((Kind.LM_HEAD, 5), {0, 5}), ((Kind.EMBED, 0), {0, 5}), ((Kind.FFN, 2), {2, 3}), ((Kind.FFN, 5), {5})],
)
def test_all_moves_near_a_change_are_tried(moves: tuple[Kind, int], near: set[int]) -> None:
    """A bound of a move holds no longer where something beside it has moved."""
    shape = ModelShape("wide", 6, 256, 16, 4, 16, 1024, 8192, 4096, activation="gelu")
    seen = seen_by(3, shape, 1, 10, on_flash=False)
    times = StepTimes(seen)
    draft, target = (
        PartialPlacement.of(seen, times, PlacementArrays.of(scattered(shape, 3, seed), shape)) for seed in range(2)
    )
    worth = np.zeros((len(MOVES), shape.n_layers), np.bool_)
    worth[0, moves[1]] = moves[0] is Kind.FFN
    tried: list[tuple[int, tuple[Kind, ...]]] = []

    def tries(_draft: object, _target: object, layer: int, kinds: tuple[Kind, ...], *_: object) -> bool:
        tried.append((layer, kinds))
        return (kinds[0], layer) == moves and len(kinds) == 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resource_aware, "could_pay", lambda *_: worth)
        patch.setattr(resource_aware, "_try_towards", tries)
        resource_aware._move_singles(draft, target, Prices(MoveCosts(seen), 10.0), draft.layers_s())
    assert tried[2:] == [(layer, kinds) for layer in sorted(near) for kinds in MOVES]


def searched(seen: ClusterView) -> PartialPlacement | None:
    times = StepTimes(seen)
    try:
        return Search(seen, times, PartialPlacement.empty(seen, times)).everything()
    except NothingFoundError:
        return None


@QUICK
@given(SHAPES, SEEDS, st.floats(0.15, 1.5), st.integers(1, 24), st.booleans())
def test_heads_are_placed_as_by_all_scores(shape: ModelShape, seed: int, share: float, n: int, alike: bool) -> None:
    """On few devices and on more than there are groups, alike or not, with much memory or little."""
    alone = seen_by(1, shape, seed, 1, on_flash=False)
    try:
        whole = MemoryHeadroom.of(alone, PlacementArrays.of(resource_aware.place(alone), shape))
    except InfeasibleError:
        pytest.fail("one device has memory for everything")
    chance = np.random.default_rng(seed)
    memory = (share * chance.uniform(0.5, 1.0, n) * whole.total[0]).astype(np.int64)
    seen = seen_by(n, shape, seed, 1, on_flash=False)
    seen = replace(
        seen,
        devices=tuple(
            replace(seen.devices[0] if alike else device, name=device.name, memory_bytes=int(room))
            for device, room in zip(seen.devices, memory, strict=True)
        ),
    )
    seen = with_links(seen, 1e10, 0.0) if alike else seen
    found = searched(seen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_search.Search, "_soonest", lambda *_: None)
        expected = searched(seen)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.layout(None).same(expected.layout(None))
        assert (found.groups == expected.groups).all()
