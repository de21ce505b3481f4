"""Galaxy's planner: shares in proportion to speed where there is memory, within memory where there is not."""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import GPT2, LLAMA, QUICK, shapes, view, with_links

from edgeemu.cluster.devices import Compute
from edgeemu.errors import InfeasibleError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, ffn, n_shards
from edgeemu.placement.placement import Placement
from edgeemu.policies import policy
from edgeemu.policies.galaxy import layer_s, place
from edgeemu.policies.kit import faults
from edgeemu.policies.search.apportion import largest_remainders
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu_kernels.shape import ModelShape

PROMPT, TOTAL = 12, 20
WIDE = replace(LLAMA, name="wide", d_ff=128, n_heads=16, n_kv_heads=16)  # 64 units, 16 groups
ROOMY = 2**30


def computes(n: int, seed: int) -> list[Compute]:
    return [Compute(1e9 * (1 + (seed * (i + 1)) % 7), 1e12, 0.0) for i in range(n)]


def counts(placement: Placement, shape: ModelShape, kind: Kind, n: int, layer: int = 0) -> list[int]:
    if kind is Kind.HEAD:
        held = placement.groups(layer, shape.n_groups)
    else:
        held = placement.shares(kind, layer, n_shards(shape, kind))
    return [len(held.get(device, ())) for device in range(n)]


def pages(seen: ClusterView, placement: Placement) -> list[int]:
    return [usage.page().total_bytes for usage in seen.usages(placement)]


@QUICK
@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=8), st.integers(0, 100), st.lists(st.integers(0, 40), min_size=8)
)
def test_largest_remainders_shares(weights: list[float], total: int, rooms: list[int]) -> None:
    rooms = rooms[: len(weights)]
    given_ = largest_remainders(weights, total, rooms)
    assert sum(given_) == min(total, sum(rooms))
    assert all(0 <= share <= room for share, room in zip(given_, rooms, strict=True))
    if all(room >= total for room in rooms):
        exact = [total * weight / sum(weights) for weight in weights]
        assert all(abs(share - part) < 1 for share, part in zip(given_, exact, strict=True))


@pytest.mark.parametrize("shape", [WIDE, replace(GPT2, d_ff=192)], ids=["llama", "gpt2"])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_with_ample_memory_shares_are_in_proportion_to_speed(shape: ModelShape, n: int) -> None:
    seen = view(shape, [ROOMY] * n, computes(n, 3), PROMPT, TOTAL)
    placement = place(seen)
    placement.check(shape, n)
    speeds = [1 / layer_s(seen, device) for device in range(n)]
    for kind in (Kind.HEAD, Kind.PROJ, Kind.FFN):
        total = shape.n_groups if kind is Kind.HEAD else n_shards(shape, kind)
        for layer in range(shape.n_layers):
            for share, speed in zip(counts(placement, shape, kind, n, layer), speeds, strict=True):
                assert abs(share - total * speed / sum(speeds)) < 1
    for group in range(shape.n_groups):
        owners = {
            placement.owner[block] for block in placement.owner if block.group == group and block.kind != Kind.FFN
        }
        assert len(owners) == 1


@QUICK
@given(shapes(), st.integers(1, 5), st.integers(0, 99), st.floats(0.2, 1.5), st.booleans())
def test_what_is_planned_is_complete_and_within_memory(
    shape: ModelShape, n: int, seed: int, share: float, star: bool
) -> None:
    roomy = replace(view(shape, [ROOMY] * n, computes(n, seed), PROMPT, TOTAL), star=star)
    total_bytes = sum(pages(roomy, place(roomy)))
    memory = [int(share * total_bytes * (0.5 + (seed * (i + 3)) % 5 / 4)) for i in range(n)]
    seen = replace(view(shape, memory, computes(n, seed), PROMPT, TOTAL), star=star)
    try:
        placement = place(seen)
    except InfeasibleError:
        return
    placement.check(shape, n)
    assert all(need <= room for need, room in zip(pages(seen, placement), memory, strict=True))
    assert place(seen, placement) is placement


def test_what_overflows_goes_to_devices_with_slack_by_their_speed() -> None:
    """Four equal devices but for one that is twice as fast and lacks the memory for five units of every layer."""
    speeds = [Compute(2e9, 1e12, 0.0), *[Compute(1e9, 1e12, 0.0)] * 3]
    roomy = view(WIDE, [ROOMY] * 4, speeds, PROMPT, TOTAL)
    before = place(roomy)
    assert counts(before, WIDE, Kind.FFN, 4) == [25, 13, 13, 13]
    small = pages(roomy, before)[0] - 9 * WIDE.n_layers * roomy.costs.weight_bytes(ffn(0, 1)) // 2
    tight = view(WIDE, [small, *[ROOMY] * 3], speeds, PROMPT, TOTAL)
    after = place(tight)
    units = counts(after, WIDE, Kind.FFN, 4)
    assert sum(units) == 64
    assert units[0] < 25
    assert max(units[1:]) - min(units[1:]) <= 1
    assert counts(after, WIDE, Kind.HEAD, 4) == counts(before, WIDE, Kind.HEAD, 4)
    assert pages(tight, after)[0] <= small
    with pytest.raises(
        InfeasibleError, match="no room for all 16 groups and 64 feed-forward units of each layer of wide"
    ):
        place(view(WIDE, [small // 4] * 4, speeds, PROMPT, TOTAL))


def test_one_device_holds_the_model_undivided() -> None:
    placement = place(view(LLAMA, [ROOMY], computes(1, 1), PROMPT, TOTAL))
    assert not any(block.is_shard for block in placement.owner)
    assert set(placement.owner.values()) == {0}


def test_the_output_matrix_is_where_it_is_fastest_and_the_embedding_at_the_source() -> None:
    slow, fast = Compute(1e8, 1e8, 0.0), Compute(1e11, 1e11, 0.0)
    seen = view(LLAMA, [ROOMY] * 3, [slow, slow, fast], PROMPT, TOTAL)
    far = with_links(seen, 1e8, 0.0)
    placement = place(far)
    assert (placement.owner[EMBED], placement.owner[LM_HEAD]) == (0, 2)
    placement = place(replace(far, source=1))
    assert (placement.owner[EMBED], placement.owner[LM_HEAD]) == (1, 2)


def test_the_policy_kit_finds_no_fault() -> None:
    assert faults(policy("galaxy"), time.perf_counter, limit_s=10.0) == []
