"""On a large cluster the heads of layers have turns: each decision looks at some, and in a few all are looked at."""

from dataclasses import replace

import numpy as np
import pytest
from support.builders import view, with_workload

from edgeemu.cluster.devices import Compute
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.policies.lookahead import place
from edgeemu.policies.search import local_moves
from edgeemu.policies.search.change_rule import Prices
from edgeemu.policies.search.local_moves import resplit_heads, turns_of_layers
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.step_time import StepTimes
from edgeemu_kernels.shape import ModelShape

N_LAYERS, N_GROUPS, N = 7, 4, 6
SHAPE = ModelShape("wide", N_LAYERS, 1024, N_GROUPS, N_GROUPS, 256, 2048, 64, 64)
FIRST = 8  # positions before the first decision


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> ClusterView:
    """Devices that are equal, so many beside the layers of the model that these have three turns."""
    monkeypatch.setattr(local_moves, "AT_ONCE", N * N_LAYERS / 3 + 1)
    seen = view(SHAPE, [2**30] * N, [Compute(1e9, 1e9, 1e-6)] * N, FIRST, 60)
    return replace(with_workload(seen, length=FIRST), weights_on_flash=True, flash_bytes_per_s=1e12)


def on_one_device() -> PlacementArrays:
    zeros = np.zeros(N_LAYERS, np.int64)
    return PlacementArrays(0, 0, np.zeros((N_LAYERS, N_GROUPS), np.int64), zeros, zeros.copy())


def resplit(seen: ClusterView, layout: PlacementArrays, prices: Prices) -> PlacementArrays:
    draft = PartialPlacement.of(seen, StepTimes(seen), layout)
    resplit_heads(draft, prices)
    return draft.layout(layout)


def test_each_layer_has_its_turn(large: ClusterView) -> None:
    assert turns_of_layers(large) == 3
    layout, prices, spread = on_one_device(), Prices(MoveCosts(large), 30.0), set[int]()
    for turn in range(3):
        seen = with_workload(large, length=FIRST + turn)
        after = resplit(seen, layout, prices)
        changed = np.flatnonzero((after.heads != layout.heads).any(1)).tolist()
        assert changed == list(range((FIRST + turn) % 3, N_LAYERS, 3)), "of these layers all gain"
        spread.update(changed)
        layout = after
    assert spread == set(range(N_LAYERS))
    assert resplit(with_workload(large, length=FIRST + 3), layout, prices).same(layout)


def test_turns_count_decisions_and_not_tokens(large: ClusterView) -> None:
    prices, changed = Prices(MoveCosts(large), 30.0), []
    for length in (9, 12, 15):
        seen = with_workload(large, length=length, interval_tokens=3)
        after = resplit(seen, on_one_device(), prices)
        changed.append(int(np.flatnonzero((after.heads != 0).any(1))[0]))
    assert sorted(changed) == [0, 1, 2]


def test_a_first_placement_splits_the_heads_of_all_layers(large: ClusterView) -> None:
    after = resplit(large, on_one_device(), Prices(None, 1.0))
    assert (after.heads != 0).any(1).all()


def test_a_small_cluster_has_one_turn() -> None:
    seen = view(SHAPE, [2**30] * N, [Compute(1e9, 1e9, 1e-6)] * N, FIRST, 60)
    assert turns_of_layers(seen) == 1


def test_a_placement_is_kept_unseen_only_after_all_turns(large: ClusterView) -> None:
    current = on_one_device().placement(SHAPE)
    quick = replace(large, divide=False)
    moved = [place(replace(with_workload(quick, length=FIRST + turn), still=turn), current) for turn in range(4)]
    assert [found is current for found in moved] == [False, False, False, True]
