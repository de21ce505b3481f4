"""Any placement follows any other: what moves, how many bytes that is, and what devices hold and need meanwhile."""

import tracemalloc
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import GPT2, LLAMA, QUICK, divided_placements, mixed_shapes, placements, precise_shapes, shapes

from edgeemu.device.block_bytes import checksum, pieces, unpack, weight_layouts
from edgeemu.device.executor import Executor
from edgeemu.device.sequences import ArrivedBlock
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, all_blocks, ffn, head, proj, shards
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.ledger import WEIGHTS, Ledger
from edgeemu.placement.memory import usages
from edgeemu.placement.migration import MigrationProtocol, copied_bytes, needs
from edgeemu.placement.placement import Move, Placement, PlacementError, is_divided, moves, regroupings
from edgeemu.placement.shipments import payload_bytes, weight_bytes
from edgeemu_kernels.packed import Stored
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

N = 3


@st.composite
def pairs(draw: st.DrawFn, shape: ModelShape) -> tuple[Placement, Placement]:
    """Two placements: undivided, divided, or with some layers so; or the second with one change of the first."""
    either = placements(shape, N) | divided_placements(shape, N)
    old, new = draw(either), draw(either)
    if draw(st.booleans()):
        kinds = draw(st.sets(st.sampled_from([(Kind.PROJ, 0), (Kind.FFN, 0), (Kind.FFN, shape.n_layers - 1)])))
        owner = {block: device for block, device in old.owner.items() if (block.kind, block.layer) not in kinds}
        new = Placement(owner | {b: d for b, d in new.owner.items() if (b.kind, b.layer) in kinds})
    return old, new


def finest(placement: Placement, shape: ModelShape) -> dict[Block, int]:
    """Owner of every block, all of them in shards."""
    owner = {}
    for block, device in placement.owner.items():
        whole = block.kind in (Kind.PROJ, Kind.FFN) and not block.is_shard
        owner |= dict.fromkeys(shards(shape, block.kind, block.layer) if whole else [block], device)
    return owner


@QUICK
@given(st.data(), shapes())
def test_moves_lead_from_one_placement_to_the_other_and_carry_nothing_twice(
    data: st.DataObject, shape: ModelShape
) -> None:
    old, new = data.draw(pairs(shape))
    before, after = finest(old, shape), finest(new, shape)
    moved: dict[Block, tuple[int, int]] = {}
    for block, source, target, _ in moves(old, new):
        assert block in old.owner or block in new.owner
        for part in finest(Placement({block: source}), shape):
            assert part not in moved
            moved[part] = source, target
    assert moved == {part: (before[part], after[part]) for part in before if before[part] != after[part]}
    assert [(b, t, s) for b, s, t, _ in moves(old, new)] == [move[:3] for move in moves(new, old)]
    changed = []
    for whole in sorted({block.whole for block in {*old.owner, *new.owner} if block.is_shard}):
        parts = shards(shape, whole.kind, whole.layer)
        for device in range(N):
            had, has = (tuple(part for part in parts if owner[part] == device) for owner in (before, after))
            if has and has != had:
                changed.append((device, has))
    assert regroupings(old, new) == changed


@QUICK
@given(st.data(), shapes() | precise_shapes() | mixed_shapes(), st.booleans(), st.integers(1, 9))
def test_devices_hold_afterwards_what_they_would_if_they_had_begun_so(
    data: st.DataObject, shape: ModelShape, flash: bool, rows: int
) -> None:
    """To the bit, and to the byte of their ledgers; what is sent is as large as the costs say."""
    old, new = data.draw(pairs(shape))
    source, costs = SeededSource(shape, 1), PhysicalCosts(shape)
    program = compile_routes(new, shape)
    devices = [loaded(source, old, device) for device in range(N)]
    changing = MigrationProtocol(2, old, new, flash)
    changing.prepared()
    arriving: dict[int, dict[Block, ArrivedBlock]] = defaultdict(dict)
    arrived_bytes = Counter[int]()
    for shipment in changing.next_round({0: rows}):
        block, sender, target = shipment[:3]
        meet = shipment.ends_meet
        arrays = devices[sender].export(block, -1, 0, 0, with_weights=shipment.with_weights, ends_meet=meet)
        cache_bytes = costs.kv_bytes(rows) if block.kind is Kind.HEAD else 0
        assert sum(array.nbytes for array in arrays) + cache_bytes == payload_bytes(shipment, costs)
        if flash:
            arrays = devices[target].weights_from_flash(block, ends_meet=meet)
        data_bytes = packed(arrays)
        arriving[target][block] = ArrivedBlock(unpack(data_bytes, weight_layouts(shape, block, ends_meet=meet)))
        arrived_bytes[target] += len(data_bytes) + cache_bytes
    copied = copied_bytes(old, new, costs)
    for need in needs(changing, usages(old, costs, N, rows, rows), rows, rows, costs):
        assert need.reserve_bytes == arrived_bytes[need.target] + copied.get(need.target, 0)
    for number, device in enumerate(devices):
        device.exchange(program.on(number), arriving[number])
        assert not arriving[number]
        begun = loaded(source, new, number)
        assert device.ledger.page() == begun.ledger.page()
        assert device.ledger.page().get(WEIGHTS, 0) == usages(new, costs, N, 1, 1)[number].page().weights_bytes
        for block in new.on(number):
            ours, theirs = (each.export(block, -1, 0, 0, with_weights=True) for each in (device, begun))
            assert checksum(ours) == checksum(theirs)


def loaded(source: SeededSource, placement: Placement, number: int) -> Executor:
    """A device of a placement, with its weights."""
    device = Executor(source, Ledger("d", 1 << 30))
    device.load(compile_routes(placement, source.shape).on(number))
    return device


def packed(arrays: list[Stored]) -> bytes:
    return b"".join(pieces(arrays, 1 << 20))


def ffn_divided(placement: Placement, shape: ModelShape, owners: list[int]) -> Placement:
    """The placement with the first feed-forward in shards, dealt out in runs."""
    parts = shards(shape, Kind.FFN, 0)
    owner = {block: device for block, device in placement.owner.items() if block != ffn(0)}
    return Placement(owner | {part: owners[part.group * len(owners) // len(parts)] for part in parts})


def test_the_moves_of_one_block_by_hand() -> None:
    """Shards that stay on the device of the whole, or are where the whole is to be, do not move."""
    whole = Placement(dict.fromkeys(all_blocks(LLAMA), 0))
    halves = ffn_divided(whole, LLAMA, [0, 1])
    parts = shards(LLAMA, Kind.FFN, 0)
    away = parts[len(parts) // 2 :]
    assert moves(whole, halves) == [Move(part, 0, 1) for part in away]
    assert regroupings(whole, halves) == [(0, tuple(parts[: len(parts) // 2])), (1, tuple(away))]
    assert regroupings(halves, halves.moved(away[:1], 0))[1] == (1, tuple(away[1:]))
    assert moves(halves, whole.moved([ffn(0)], 1)) == [Move(part, 0, 1) for part in parts[: len(parts) // 2]]
    assert regroupings(halves, whole) == [(0, tuple(parts))]
    here = ffn_divided(whole, LLAMA, [0])
    assert (moves(whole, here), moves(here, whole)) == ([], [])
    assert (regroupings(whole, here), regroupings(here, whole)) == ([], []), "it has all of it, and copies nothing"
    assert (regroupings(whole, whole.moved([ffn(0)], 1)), regroupings(halves, halves)) == ([], [])
    assert (is_divided(halves, LLAMA.n_layers), is_divided(whole, LLAMA.n_layers)) == (True, False)
    with pytest.raises(PlacementError, match=r"ffn\(0\) is in only one of the two placements"):
        moves(whole, Placement({block: 0 for block in whole.owner if block != ffn(0)}))


def test_only_a_head_is_shipped_again_and_a_change_without_moves_can_be_committed() -> None:
    whole = Placement(dict.fromkeys(all_blocks(LLAMA), 0))
    changing = MigrationProtocol(2, whole, ffn_divided(whole, LLAMA, [0, 1]).moved([head(0, 1)], 1))
    changing.prepared()
    costs, first = PhysicalCosts(LLAMA), changing.next_round({0: 5})
    units = [part for part in shards(LLAMA, Kind.FFN, 0) if changing.new.owner[part] == 1]
    expected = sum(weight_bytes(block, costs) for block in (head(0, 1), *units)) + costs.kv_bytes(5)
    assert sum(payload_bytes(shipment, costs) for shipment in first) == expected
    changing.arrived(1, 0)
    assert [shipment.block for shipment in changing.next_round({0: 7})] == [head(0, 1)]
    changing.arrived(1, 1)
    changing.committed()
    relabelled = MigrationProtocol(3, whole, ffn_divided(whole, LLAMA, [0]))
    relabelled.prepared()
    assert relabelled.next_round({0: 5}) == []
    relabelled.committed()


@pytest.mark.parametrize(
    "way", ["cut", "cut and nothing left", "joined", "joined from arrivals", "as it is", "shifted"]
)
@pytest.mark.parametrize("small", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_what_is_in_memory_twice_is_no_more_than_was_reserved_for_it(small: ModelShape, way: str) -> None:
    shape = replace(small, n_layers=1, d_model=128, d_ff=1024)
    source, costs = SeededSource(shape, 1), PhysicalCosts(shape)
    whole = Placement({EMBED: 1, **{head(0, g): 1 for g in range(shape.n_groups)}, proj(0): 1, ffn(0): 0, LM_HEAD: 1})
    owners = {"cut": [0, 1], "cut and nothing left": [1], "joined": [0, 1], "joined from arrivals": [1]}.get(way, [0])
    old, new = whole, ffn_divided(whole, shape, owners)
    if way.startswith("joined"):
        old, new = new, old
    if way == "shifted":
        old, new = ffn_divided(whole, shape, [0, 1, 1]), ffn_divided(whole, shape, [1, 0])
    device, other = loaded(source, old, 0), loaded(source, old, 1)
    arriving = {}
    for block, _, target, _ in moves(old, new):
        if target == 0:
            data = packed(other.export(block, -1, 0, 0, with_weights=True))
            arriving[block] = ArrivedBlock(unpack(data, weight_layouts(shape, block)))
    tracemalloc.start()
    ops = compile_routes(new, shape).on(0)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    device.exchange(ops, arriving)
    peak_bytes = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak_bytes <= copied_bytes(old, new, costs).get(0, 0) + 100_000  # views and lists
