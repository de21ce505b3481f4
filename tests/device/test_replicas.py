"""Replicas on a pair of devices: whatever happens, they are what their owners hold, and can take its place."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, SHAPES, SLOW
from support.device_pair import CHUNK_BYTES, DevicePair, Generation, peer_of

from edgeemu.device.block_bytes import BlockBytesError
from edgeemu.device.protocol_in import Commit, Expect, HoldReplicas, Rewind, Ship
from edgeemu.device.protocol_out import Arrived, Report
from edgeemu.device.protocol_states import ProtocolError
from edgeemu.links.messages import ChunkHeader, ShipmentChunk
from edgeemu.placement.blocks import EMBED, Kind, all_blocks, head
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.ledger import INCOMING
from edgeemu.placement.placement import Placement
from edgeemu.placement.replica_copies import ReplicaCopies, ReplicaRound
from edgeemu.placement.replicas import Replica
from edgeemu.placement.shipments import Shipment, chains
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

PROMPTS = ([3, 1, 4, 1, 5], [2, 7])
NEW_TOKENS = 8
SIZE_BYTES = 1000  # of each replica, as charged


class Replicating:
    """A generation on two devices that each have replicas of what the other owns."""

    def __init__(self, shape: ModelShape, seed: int, *, loaded: bool) -> None:
        draw = random.Random(seed)
        placement = Placement({block: draw.randrange(2) for block in all_blocks(shape)})
        self.run = Generation(shape, placement, DevicePair())
        replicas = frozenset(Replica(block, 1 - owner) for block, owner in placement.owner.items())
        self.copies = ReplicaCopies(100, placement, replicas, unloaded=frozenset() if loaded else replicas)
        self._hold(load=loaded)
        for sequence, prompt in enumerate(PROMPTS):
            self.run.open(sequence, list(prompt), NEW_TOKENS)

    def _hold(self, *, load: bool) -> None:
        for device in (0, 1):
            mine = [(block, SIZE_BYTES) for block, holder in sorted(self.copies.replicas) if holder == device]
            self.run.pair.tell(device, HoldReplicas(self.copies.epoch, mine, load))

    def ship(self) -> None:
        """Begins a round for the rows that caches have now."""
        made = self.copies.next_round(self.run.rows)
        if made is not None:
            self._send(made)

    def _send(self, made: ReplicaRound) -> None:
        epoch, number, shipments, reads = made
        pair = self.run.pair
        for target in sorted({*(each.target for each in shipments), *reads}):
            count = sum(shipment.target == target for shipment in shipments)
            read = [replica.block for replica in reads.get(target, ())]
            pair.tell(target, Expect(epoch, number, count, read, pair.now_s, to_replicas=True))
        for (source, target), shipped in chains(shipments).items():
            pair.tell(
                source, Ship(epoch, number, pair.now_s, CHUNK_BYTES, shipped, [peer_of(target)], to_replicas=True)
            )

    def arrive(self) -> None:
        """Takes what has arrived until now."""
        for arrived in self.run.pair.take(Arrived):
            if arrived.epoch == self.copies.epoch:
                self.copies.arrived(arrived.device, arrived.number)

    def renew(self) -> None:
        """Gives up what is under way."""
        self.copies = self.copies.renewed(self.copies.epoch + 1, self.copies.placement, self.copies.replicas, None)
        self._hold(load=False)

    def lose(self, lost: int) -> None:
        """Goes on without one of the two, on what the other has: rows that it lacks are computed again."""
        self.run.halt()
        self.run.pair.settle()
        self.arrive()
        self.renew()
        owned = [block for block, owner in self.run.placement.owner.items() if owner == lost]
        promoted = [Replica(block, 1 - lost) for block in owned]
        assert self.copies.loaded.issuperset(promoted)
        rows = self.copies.common_rows(promoted, self.run.rows)
        layers = self.run.shape.n_layers
        self.run.pair.tell(1 - lost, Rewind(rows, layers, self.run.rows))
        migration = self.run.migration(dict.fromkeys(owned, 1 - lost))
        program = compile_routes(migration.new, self.run.shape)
        self.run.pair.tell(1 - lost, Commit(migration.epoch, program.on(1 - lost), []))
        self.run.pair.tell(lost, Commit(migration.epoch, [], []))
        self.run.placement, self.run.epoch, self.run._program = migration.new, migration.epoch, program
        self.run.restore(layers, rows, 3)


@SLOW
@given(st.sampled_from(SHAPES), st.integers(0, 10**6), st.booleans())
def test_one_device_goes_on_with_the_replicas_of_the_other_as_if_nothing_had_been_lost(
    shape: ModelShape, seed: int, loaded: bool
) -> None:
    draw, made = random.Random(seed), Replicating(shape, seed, loaded=loaded)
    run = made.run
    if not loaded:
        made.ship()
        run.pair.settle()
        made.arrive()
    for _ in range(12):
        what = draw.choice(["token", "token", "ship", "ship", "arrive", "step", "renew"])
        sequence = draw.randrange(2)
        if what == "token" and len(run.tokens[sequence]) < NEW_TOKENS - 1:
            run.generate(sequence)
        elif what == "ship":
            made.ship()
        elif what == "arrive":
            run.pair.settle()
            made.arrive()
        elif what == "step":
            run.pair.step()
        elif what == "renew":
            made.renew()
    made.lose(lost := draw.randrange(2))
    assert run.pair.devices[1 - lost].ledger.page().get(INCOMING, 0) == 0, "no replica is left"
    reference = Reference(SeededSource(shape, 0))
    for sequence, prompt in enumerate(PROMPTS):
        run.generate(sequence, NEW_TOKENS - len(run.tokens[sequence]))
        assert run.tokens[sequence] == reference.generate(list(prompt), NEW_TOKENS)


@SLOW
@given(st.integers(0, 10**6))
def test_rows_of_replicas_are_those_of_the_caches_bit_for_bit(seed: int) -> None:
    made = Replicating(LLAMA, seed, loaded=True)
    run = made.run
    for sequence in (0, 1, 0, 0, 1):
        run.generate(sequence)
        made.ship()
        run.pair.settle()
        made.arrive()
    owned = [block for block, owner in run.placement.owner.items() if owner == 0]
    exported = {
        (block, sequence): run.pair.devices[0].executor.export(block, sequence, 0, rows, with_weights=True)
        for block in owned
        for sequence, rows in run.rows.items()
    }
    before = {key: [np.array(array) for array in arrays] for key, arrays in exported.items()}
    run.pair.take(Report)
    made.lose(0)
    for (block, sequence), arrays in before.items():
        rows = run.rows[sequence]
        after = run.pair.devices[1].executor.export(block, sequence, 0, rows, with_weights=True)
        assert [array.tobytes() for array in after] == [array.tobytes() for array in arrays]


def test_a_chunk_of_rounds_that_were_given_up_is_dropped_and_rows_that_do_not_follow_are_refused() -> None:
    made = Replicating(LLAMA, 1, loaded=True)
    pair = made.run.pair
    heads = [each for each in sorted(made.copies.replicas) if each.block.kind is Kind.HEAD and each.holder == 1]
    shipment = Shipment(heads[0].block, 0, 1, 0, 3, 4, with_weights=False)

    def chunk(epoch: int) -> ShipmentChunk:
        size = made.run.costs.kv_bytes(1)
        return ShipmentChunk(ChunkHeader(epoch, 0, shipment, 0, size, 0, to_replica=True), bytes(size))

    assert pair.devices[1].handle(chunk(99)) == []
    with pytest.raises((ProtocolError, BlockBytesError)):
        pair.devices[1].handle(chunk(100))
    with pytest.raises(ProtocolError, match=r"Ship of round 0 of epoch 7, but it is of other replicas; legal is epoch"):
        pair.tell(0, Ship(7, 0, 0.0, CHUNK_BYTES, [shipment], [], to_replicas=True))
    made.run.pair.tell(1, Commit(101, compile_routes(made.run.placement, LLAMA).on(1), []))
    assert pair.devices[1].handle(chunk(100)) == [], "after a commit nothing is known of replicas until it is told"


def test_replicas_are_charged_and_a_sequence_that_ends_takes_its_rows_along() -> None:
    made = Replicating(LLAMA, 2, loaded=True)
    run = made.run
    for device in (0, 1):
        held = sum(replica.holder == device for replica in made.copies.replicas)
        assert run.pair.devices[device].ledger.page()[INCOMING] == held * SIZE_BYTES
    run.generate(0)
    made.ship()
    run.pair.settle()
    run.close(0)
    made.arrive()
    run.open(2, [5, 5], NEW_TOKENS)
    assert made.copies.rows(next(each for each in made.copies.replicas if each.block == head(0, 0)), 2) == 0
    made.copies = made.copies.renewed(200, made.copies.placement, frozenset({Replica(EMBED, 1)}), None)
    made._hold(load=False)
    assert run.pair.devices[1].ledger.page()[INCOMING] == SIZE_BYTES
    assert run.pair.devices[0].ledger.page().get(INCOMING, 0) == 0
