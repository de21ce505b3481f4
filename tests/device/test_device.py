"""Two devices in memory: steps, whole migrations, refusals and aborts, without a process."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from support.builders import SHAPES
from support.device_pair import CHUNK_S, DELAY_S, DevicePair, Generation

from edgeemu.device.protocol_in import ChangeDevice
from edgeemu.device.protocol_out import Arrived, Ready, Token, TransfersHandled
from edgeemu.placement.blocks import Block, Kind, all_blocks, ffn, head, proj, shards
from edgeemu.placement.ledger import CACHE, INCOMING, WEIGHTS, WORKSPACE
from edgeemu.placement.migration import reservation_bytes
from edgeemu.placement.placement import Placement
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

IDS = [3, 1, 4, 1, 5]
NEW_TOKENS = 8
MOVED = head(0, 1)


def split(shape: ModelShape) -> Placement:
    """Ends, projections and all but the first group on d0; first groups and feed-forwards on d1."""
    return Placement({block: int(block.kind is Kind.FFN or block.group == 0) for block in all_blocks(shape)})


def begun(shape: ModelShape, pair: DevicePair | None = None, *, paced: bool = True) -> Generation:
    """A sequence with three of its tokens."""
    generation = Generation(shape, split(shape), pair or DevicePair(), paced=paced)
    generation.open(0, IDS, NEW_TOKENS)
    generation.generate(0, 3)
    return generation


def finish(generation: Generation) -> None:
    """Generates the other tokens: text and logits must be the reference's."""
    generation.generate(0, NEW_TOKENS - len(generation.tokens[0]))
    reference = Reference(SeededSource(generation.shape, 0))
    tokens = generation.tokens[0]
    assert tokens == reference.generate(IDS, NEW_TOKENS)
    logits = reference.logits(IDS + tokens[:-1])[len(IDS) - 1 :]  # [new, vocab]
    np.testing.assert_allclose(np.stack(generation.logits[0]), logits, rtol=0, atol=1e-4)


def pages(generation: Generation) -> list[dict[str, int]]:
    return [device.ledger.page() for device in generation.pair.devices]


def contents(generation: Generation) -> list[dict[Block, list[bytes]]]:
    """Blocks by device: weights, and the rows of the sequence's cache, to the bit."""
    held = []
    for device, state in enumerate(generation.pair.devices):
        blocks = generation.placement.on(device)
        rows = generation.rows[0]
        export = state.executor.export
        held.append({block: [a.tobytes() for a in export(block, 0, 0, rows, with_weights=True)] for block in blocks})
    return held


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("paced", [True, False], ids=["paced", "unpaced"])
def test_two_devices_write_what_the_undivided_model_writes(shape: ModelShape, paced: bool) -> None:
    generation = begun(shape, paced=paced)
    finish(generation)
    generation.close(0)
    for page in pages(generation):
        assert page.keys() == {WEIGHTS}


def test_nothing_is_delivered_before_it_has_arrived() -> None:
    generation = begun(SHAPES[0])
    generation.start(0)
    began_s, crossings = generation.pair.now_s, 4 * SHAPES[0].n_layers  # there and back, twice a layer
    generation.pair.settle()
    (token,) = generation.pair.take(Token)
    assert token.sampled_s >= began_s + crossings * DELAY_S
    assert generation.pair.now_s == token.sampled_s


def pause(generation: Generation, moved: dict[Block, int]) -> None:
    """One round, while no step is under way."""
    migration = generation.migration(moved)
    assert not any(answer.refusal for answer in generation.prepare(migration))
    generation.ship(migration)
    generation.arrive(migration)
    generation.commit(migration)


def precopy(generation: Generation, moved: dict[Block, int]) -> None:
    """Two rounds while tokens are generated, and one for the rows since."""
    migration = generation.migration(moved)
    assert not any(answer.refusal for answer in generation.prepare(migration, growth_rows=2))
    for _ in range(2):
        generation.ship(migration)
        generation.generate(0)
        generation.arrive(migration)
    generation.ship(migration)
    generation.arrive(migration)
    assert migration.round == 2
    generation.commit(migration)


MODES: dict[str, Callable[[Generation, dict[Block, int]], None]] = {"pause": pause, "precopy": precopy}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("paced", [True, False], ids=["paced", "unpaced"])
@pytest.mark.parametrize("mode", MODES)
def test_a_head_moves_with_its_cache_and_the_text_goes_on(mode: str, paced: bool, shape: ModelShape) -> None:
    generation = begun(shape, paced=paced)
    before = contents(generation)[0][MOVED]
    MODES[mode](generation, {MOVED: 1})
    assert [ready.request for ready in generation.pair.take(Ready)][-2:] == ["Commit", "Commit"]
    now = contents(generation)
    assert MOVED not in now[0]
    n_weights = len(before) - 2  # then keys and values
    assert now[1][MOVED][:n_weights] == before[:n_weights]
    for here, there in zip(now[1][MOVED][n_weights:], before[n_weights:], strict=True):
        assert here.startswith(there)
    assert all(INCOMING not in page for page in pages(generation))
    finish(generation)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_blocks_of_every_kind_move_both_ways_at_once(shape: ModelShape) -> None:
    """And after all have moved back, each device holds what it held, to the byte of its ledger."""
    generation = begun(shape)
    weights = [page[WEIGHTS] for page in pages(generation)]
    old = dict(generation.placement.owner)
    moved = {MOVED: 1, head(1, 0): 0, proj(1): 1, ffn(0): 0, Block(Kind.EMBED): 1, Block(Kind.LM_HEAD): 1}
    pause(generation, moved)
    assert [page[WEIGHTS] for page in pages(generation)] != weights
    precopy(generation, {block: old[block] for block in moved})
    assert [page[WEIGHTS] for page in pages(generation)] == weights
    finish(generation)


@pytest.mark.parametrize("spare_bytes", [0, -1])
def test_a_reservation_that_does_not_fit_is_refused_and_changes_nothing(spare_bytes: int) -> None:
    """To the byte: one more, and the receiver takes it."""
    shape = SHAPES[0]
    roomy = begun(shape)
    need_bytes = reservation_bytes(roomy.migration({MOVED: 1}).moves, roomy.rows[0], roomy.costs)
    room_bytes = roomy.pair.devices[1].ledger.used_bytes + need_bytes + spare_bytes
    generation = begun(shape, DevicePair((1 << 30, room_bytes)))
    before, held = pages(generation), contents(generation)
    migration = generation.migration({MOVED: 1})
    (answer,) = generation.prepare(migration)
    if not spare_bytes:
        assert answer.refusal == ""
        assert pages(generation)[1][INCOMING] == need_bytes
        return
    assert answer.refusal.startswith(f"d1 is out of memory: incoming needs {need_bytes:,} B more")
    assert pages(generation) == before
    generation.abort(migration)
    assert (pages(generation), contents(generation)) == (before, held)


HALVES = {part: part.group % 2 for part in shards(SHAPES[0], Kind.FFN, 0)}  # of the feed-forward, which d1 has whole


@pytest.mark.parametrize("mode", MODES)
def test_a_block_is_divided_and_put_together_and_the_text_goes_on(mode: str) -> None:
    generation = begun(SHAPES[0])
    weights = [page[WEIGHTS] for page in pages(generation)]
    MODES[mode](generation, HALVES)
    assert all(INCOMING not in page for page in pages(generation))
    MODES[mode](generation, {ffn(0): 1})
    assert [page[WEIGHTS] for page in pages(generation)] == weights
    finish(generation)


def test_a_device_that_only_loses_shards_needs_room_for_the_others_but_not_what_other_work_has_taken() -> None:
    """To the byte: one less, and it refuses; then all is as it was, and the next change goes well."""
    roomy = begun(SHAPES[0])
    copied_bytes = sum(roomy.costs.weight_bytes(part) for part, device in HALVES.items() if device == 1)
    need_bytes = roomy.pair.devices[1].ledger.used_bytes + copied_bytes
    for spare_bytes in (0, -1):
        generation = begun(SHAPES[0], DevicePair((1 << 30, need_bytes + spare_bytes)))
        before, held = pages(generation), contents(generation)
        if not spare_bytes:
            generation.pair.tell(1, ChangeDevice(generation.pair.now_s, None, 1000))
            pause(generation, HALVES)
        else:
            migration = generation.migration(HALVES)
            receiver, cutter = generation.prepare(migration)
            assert receiver.refusal == ""
            assert cutter.refusal.startswith(f"d1 is out of memory: incoming needs {copied_bytes:,} B more")
            generation.abort(migration)
            assert (pages(generation), contents(generation)) == (before, held)
            pause(generation, {ffn(0): 0})
        finish(generation)


def test_after_a_refusal_the_old_placement_goes_on() -> None:
    generation = begun(SHAPES[0])
    migration = generation.migration({MOVED: 1})
    (answer,) = generation.prepare(migration, growth_rows=1 << 40)
    assert "and to grow by" in answer.refusal
    generation.abort(migration)
    finish(generation)


@pytest.mark.parametrize("chunks", [0, 1, 3, 1 << 30], ids=["no chunk", "one chunk", "some chunks", "all"])
@pytest.mark.parametrize("paced", [True, False], ids=["paced", "unpaced"])
def test_an_abort_in_the_middle_leaves_both_devices_as_they_were(chunks: int, paced: bool) -> None:
    generation = begun(SHAPES[0], paced=paced)
    before, held = pages(generation), contents(generation)
    migration = generation.migration({MOVED: 1, head(1, 0): 0})
    generation.prepare(migration)
    assert all(page[INCOMING] for page in pages(generation))
    generation.pair.rooms = [chunks, chunks]
    generation.ship(migration)
    generation.pair.settle()
    stuck = [device.is_stuck for device in generation.pair.devices]
    assert stuck == [chunks < 1 << 30] * 2
    assert len(generation.pair.take(Arrived)) == (0 if chunks < 1 << 30 else 2)
    generation.abort(migration)
    assert (pages(generation), contents(generation)) == (before, held)
    assert not any(device.is_stuck for device in generation.pair.devices)
    generation.pair.rooms = [1 << 30, 1 << 30]
    pause(generation, {MOVED: 1})
    finish(generation)


def test_chunks_of_an_aborted_migration_are_dropped_when_they_arrive() -> None:
    generation = begun(SHAPES[0])
    migration = generation.migration({MOVED: 1})
    generation.prepare(migration)
    generation.ship(migration)
    generation.pair.step()  # the first chunk has left, and has not been taken in
    before = pages(generation)
    generation.abort(migration)
    generation.pair.settle()
    assert generation.pair.take(Arrived) == []
    assert pages(generation)[1] == {name: size for name, size in before[1].items() if name != INCOMING}
    pause(generation, {MOVED: 1})
    finish(generation)


@pytest.mark.parametrize("message_s", [0.5e-3, 5e-3])  # a link takes a chunk in 2 ms
@pytest.mark.parametrize("mode", MODES)
def test_chunks_keep_both_devices_busy_beside_their_operations(mode: str, message_s: float) -> None:
    generation = begun(SHAPES[0], DevicePair(message_s=message_s))
    began_s = generation.pair.now_s
    MODES[mode](generation, {MOVED: 1})
    sent, taken_in = (told.transfers for told in sorted(generation.pair.take(TransfersHandled), key=lambda t: t.name))
    assert {(each.device, each.sends) for each in sent} == {(0, True)}
    assert {(each.device, each.sends) for each in taken_in} == {(1, False)}
    assert len(sent) == len(taken_in) > 10
    for times in ([each.time for each in transfers] for transfers in (sent, taken_in)):
        assert [time.end_s - time.start_s for time in times] == pytest.approx([message_s] * len(times))
        assert all(before.end_s <= after.start_s for before, after in pairwise(times))
    if mode == "pause":
        pace_s = max(message_s, CHUNK_S)
        each_s = [message_s, CHUNK_S, message_s]
        expected_s = (len(sent) - 1) * pace_s + sum(each_s) + DELAY_S
        assert taken_in[-1].time.end_s - began_s == pytest.approx(expected_s)
    finish(generation)


@pytest.mark.parametrize("steps", range(1, 9))
def test_what_an_aborted_migration_has_queued_is_dropped(steps: int) -> None:
    """Wherever its chunks are: due, in the queue of their sender, on their way, or in that of their receiver."""
    generation = begun(SHAPES[0], DevicePair(message_s=5e-3))
    before, held = pages(generation), contents(generation)
    migration = generation.migration({MOVED: 1})
    generation.prepare(migration)
    generation.ship(migration)
    for _ in range(steps):
        generation.pair.step()
        due_s = [device.due_s for device in generation.pair.devices if device.due_s is not None]
        generation.pair.now_s = max(generation.pair.now_s, min(due_s, default=0.0))
    generation.abort(migration)
    generation.pair.settle()
    assert generation.pair.take(Arrived) == []
    assert (pages(generation), contents(generation)) == (before, held)
    pause(generation, {MOVED: 1})
    finish(generation)


def test_several_sequences_move_their_rows_and_one_that_ends_meanwhile_leaves_none() -> None:
    generation = begun(SHAPES[0])
    generation.open(1, [2, 7, 1], 6)
    generation.generate(1, 2)
    migration = generation.migration({MOVED: 1})
    generation.prepare(migration, growth_rows=4)
    generation.ship(migration)
    generation.close(1)
    generation.arrive(migration)
    generation.ship(migration)
    generation.arrive(migration)
    generation.commit(migration)
    kept = [page[CACHE] for page in pages(generation)]
    groups = [sum(b.kind is Kind.HEAD for b in generation.placement.on(device)) for device in (0, 1)]
    assert kept == [count * generation.costs.kv_bytes(generation.rows[0]) for count in groups]
    assert all(page[WORKSPACE] for page in pages(generation))
    finish(generation)
