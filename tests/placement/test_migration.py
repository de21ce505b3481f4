"""The protocol of a change of placement, without sockets; and blocks that travel as bytes and arrive as they were."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import GPT2, LLAMA, QUICK

from edgeemu.device.block_bytes import (
    BlockBytes,
    BlockBytesError,
    Layout,
    cache_layouts,
    checksum,
    pieces,
    unpack,
    weight_layouts,
)
from edgeemu.device.executor import Executor
from edgeemu.device.sequences import ArrivedBlock, SequenceState
from edgeemu.placement.blocks import Block, Kind, all_blocks, ffn, head
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.ledger import Ledger
from edgeemu.placement.migration import (
    IllegalTransitionError,
    MigrationProtocol,
    MigrationState,
    flash_ends,
    reservation_bytes,
)
from edgeemu.placement.placement import Placement
from edgeemu.placement.shipments import chains, chunk_sizes, payload_bytes, weight_bytes
from edgeemu_kernels.packed import Stored
from edgeemu_kernels.sampling import GREEDY
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.open_model import seeded_model

BLOCKS = list(all_blocks(LLAMA))
OLD = Placement(dict.fromkeys(BLOCKS, 0))


def migration(*moved: Block, flash: bool = False) -> MigrationProtocol:
    return MigrationProtocol(2, OLD, OLD.moved(moved, 1), flash)


def test_what_is_written_goes_first_and_only_heads_send_more() -> None:
    changing = migration(head(0, 0), ffn(0))
    changing.prepared()
    first = changing.next_round({0: 10})
    assert [(s.block.kind, s.first_row, s.end_row, s.with_weights) for s in sorted(first)] == [
        (Kind.FFN, 0, 10, True),
        (Kind.HEAD, 0, 10, True),
    ]
    assert changing.arrived(1, 0)
    second = changing.next_round({0: 13})
    assert [(s.block, s.first_row, s.end_row, s.with_weights) for s in second] == [(head(0, 0), 10, 13, False)]
    assert changing.arrived(1, 1)
    changing.committed()
    assert changing.state is MigrationState.COMMITTED


def test_a_second_round_without_heads_has_nothing_to_wait_for() -> None:
    changing = migration(ffn(0))
    changing.prepared()
    changing.next_round({0: 10})
    changing.arrived(1, 0)
    assert changing.next_round({0: 12}) == []
    changing.committed()


LEGAL = {
    MigrationState.PREPARING: {"prepared", "aborted"},
    MigrationState.PREPARED: {"round", "aborted"},
    MigrationState.COPYING: {"arrived", "aborted"},
    MigrationState.COPIED: {"round", "committed", "aborted"},
    MigrationState.COMMITTED: set(),
    MigrationState.ABORTED: set(),
}


@given(st.lists(st.sampled_from(["prepared", "round", "arrived", "committed", "aborted"]), max_size=8))
@QUICK
def test_no_order_of_events_commits_what_was_not_copied(events: list[str]) -> None:
    """Every event is either legal or raises and changes nothing; commit needs prepare and a round that arrived."""
    changing = migration(head(0, 0))
    seen = []
    for event in events:
        before = changing.state
        happens = {
            "prepared": changing.prepared,
            "round": lambda: changing.next_round({0: 5}),
            "arrived": lambda: changing.arrived(1, changing.round),
            "committed": changing.committed,
            "aborted": lambda: changing.aborted("why not"),
        }[event]
        if event in LEGAL[before]:
            happens()
            seen.append(event)
        else:
            with pytest.raises(IllegalTransitionError, match=f"it is {before.value}"):
                happens()
            assert changing.state is before
    if changing.state is MigrationState.COMMITTED:
        assert "aborted" not in seen
        assert seen[0] == "prepared"
        assert seen.count("round") == seen.count("arrived") >= 1


def test_an_error_tells_the_history() -> None:
    changing = migration(head(0, 0))
    changing.prepared()
    changing.next_round({0: 3})
    with pytest.raises(IllegalTransitionError, match=r"committed, but it is copying. Before that: prepared; round 0"):
        changing.committed()
    with pytest.raises(IllegalTransitionError, match="round 0 arrived at device 7"):
        changing.arrived(7, 0)


@given(st.integers(0, 10**6), st.integers(1, 10**5))
@QUICK
def test_chunks_are_the_whole_and_an_empty_payload_is_one_message(payload: int, chunk: int) -> None:
    sizes = chunk_sizes(payload, chunk)
    assert sum(sizes) == payload
    assert len(sizes) == max(1, -(-payload // chunk))
    assert max(sizes) <= chunk


def test_weights_from_flash_are_not_sent_and_take_their_time() -> None:
    costs = PhysicalCosts(LLAMA)
    changing = migration(head(0, 0), head(0, 1), flash=True)
    changing.prepared()
    shipments = changing.next_round({0: 4})
    assert sum(payload_bytes(s, costs) for s in shipments) == 2 * costs.kv_bytes(4)
    read_bytes = 2 * weight_bytes(head(0, 0), costs)
    assert flash_ends(changing, 1.0, 1e6, costs) == {1: pytest.approx(1.0 + read_bytes / 1e6)}
    assert reservation_bytes(changing.moves, 4, costs) == read_bytes + 2 * costs.kv_bytes(4)
    assert list(chains(shipments)) == [(0, 1)]


@pytest.mark.parametrize("shape", [LLAMA, GPT2, GPT2.at_precision("q4_0", "q8_0")], ids=["llama", "gpt2", "packed"])
def test_a_parcel_weighs_what_the_costs_say(shape: ModelShape) -> None:
    costs = PhysicalCosts(shape)
    compute = loaded(shape, Placement(dict.fromkeys(all_blocks(shape), 0)))
    for block in all_blocks(shape):
        sent = packed(compute.export(block, -1, 0, 0, with_weights=True))
        expected = weight_bytes(block, costs)
        assert len(sent) == expected
        assert sum(layout.nbytes for layout in weight_layouts(shape, block)) == expected


def packed(arrays: Sequence[Stored]) -> bytes:
    return b"".join(pieces(arrays, 1 << 20))


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 70))
@QUICK
def test_pieces_are_the_arrays_bytes_in_chunks(sizes: list[int], chunk_bytes: int) -> None:
    arrays = [np.arange(size, dtype=np.float32) + n for n, size in enumerate(sizes)]
    data = b"".join(array.tobytes() for array in arrays)
    cut = list(pieces(arrays, chunk_bytes))
    assert b"".join(cut) == data
    assert [len(piece) for piece in cut] == chunk_sizes(len(data), chunk_bytes)
    assert checksum(arrays) == crc32(data)


def loaded(shape: ModelShape, placement: Placement) -> Executor:
    """Device 0 of a placement, with its weights."""
    compute = Executor(seeded_model(shape, 1).open_source(), Ledger("a", 1 << 30))
    compute.load(compile_routes(placement, shape).on(0))
    return compute


@given(st.data())
@QUICK
def test_blocks_and_caches_arrive_bit_for_bit(data: st.DataObject) -> None:
    """Any blocks from one device to another that holds the rest; rows in two rounds; then each is asked for them."""
    shape = data.draw(st.sampled_from([LLAMA, GPT2]))
    blocks = list(all_blocks(shape))
    moving = data.draw(st.sets(st.sampled_from(blocks), min_size=1))
    stay = data.draw(st.sets(st.sampled_from(blocks))) - moving
    old = Placement({b: 1 if b in stay else 0 for b in blocks})
    new = old.moved(moving, 1)
    rows, cut = data.draw(st.integers(1, 9)), data.draw(st.integers(0, 9))
    devices = []
    for device in (0, 1):
        compute = Executor(seeded_model(shape, 1).open_source(), Ledger("ab"[device], 1 << 30))
        compute.load(compile_routes(old, shape).on(device))
        compute.open(0, 1, 16, SequenceState(GREEDY, keep_logits=False))
        devices.append(compute)
    fill_caches(devices, old, shape, rows)
    before = {block: packed(devices[0].export(block, 0, 0, rows, with_weights=True)) for block in moving}
    arriving = {}
    for block in moving:
        first = packed(devices[0].export(block, 0, 0, min(cut, rows), with_weights=True))
        rest = packed(devices[0].export(block, 0, min(cut, rows), rows, with_weights=False))
        arriving[block] = reassembled(shape, block, first, rest, min(cut, rows), rows)
    program = compile_routes(new, shape)
    devices[1].exchange(program.on(1), arriving)
    assert arriving == {}, "nothing is kept beside what is held"
    devices[0].exchange(program.on(0), {})
    for block in moving:
        assert packed(devices[1].export(block, 0, 0, rows, with_weights=True)) == before[block]
        with pytest.raises((KeyError, ValueError)):
            devices[0].export(block, 0, 0, rows, with_weights=True)


def fill_caches(devices: list[Executor], placement: Placement, shape: ModelShape, rows: int) -> None:
    """Runs every heads operation on random input, so that caches hold rows."""
    draw = np.random.default_rng(0)
    for op in compile_routes(placement, shape).ops:
        if op.kind is Kind.HEAD:
            x = draw.standard_normal((rows, shape.d_model)).astype(np.float32)
            devices[op.device].run(op, 0, 0, 0, [x])


def reassembled(shape: ModelShape, block: Block, first: bytes, rest: bytes, cut: int, rows: int) -> ArrivedBlock:
    layouts = weight_layouts(shape, block)
    if block.kind is not Kind.HEAD:
        return ArrivedBlock(unpack(first, layouts))
    *weights, k0, v0 = unpack(first, [*layouts, *cache_layouts(shape, cut)])
    k1, v1 = unpack(rest, cache_layouts(shape, rows - cut))
    return ArrivedBlock(weights, {0: (np.concatenate([k0, k1]), np.concatenate([v0, v1]))})


def test_a_parcel_that_is_damaged_or_out_of_order_is_refused() -> None:
    data = packed([np.arange(4, dtype=np.float32)])
    parcel = BlockBytes(len(data), crc32(data))
    assert not parcel.add(0, data[:8])
    with pytest.raises(BlockBytesError, match="a chunk at 12 after 8 bytes"):
        parcel.add(12, data[12:])
    with pytest.raises(BlockBytesError, match="arrived as 16 others"):
        parcel.add(8, b"x" * 8)
    with pytest.raises(BlockBytesError, match="16 bytes for arrays of 24"):
        unpack(data, [Layout((2, 3))])
