"""Messages that are out of order are refused, with what is legal and with the messages that led there."""

from collections.abc import Mapping
from typing import get_args

import pytest
from support.builders import LLAMA
from support.device_pair import CHUNK_BYTES, DevicePair, Generation

from edgeemu.cluster.links import Hop, Path
from edgeemu.device.dataflow import DataflowError
from edgeemu.device.protocol_in import (
    Abort,
    Assign,
    Begin,
    Close,
    Commit,
    Expect,
    Follow,
    ForgetPeak,
    Halt,
    Open,
    Prepare,
    Probe,
    Ship,
    Start,
    Status,
    Stop,
    ToDevice,
)
from edgeemu.device.protocol_states import DEVICE, HISTORY, MIGRATION, SEQUENCE, ProtocolError, ProtocolStates
from edgeemu.links.interface import Peer
from edgeemu.links.messages import ChunkHeader, ShipmentChunk
from edgeemu.placement.blocks import all_blocks, head
from edgeemu.placement.placement import Move, Placement
from edgeemu.placement.shipments import Shipment

MOVED = head(0, 1)
OPEN = Open(0, 3, 9, 0.0, 0, 1.0, 0)
MOVE = Move(MOVED, 0, 1)
PREPARE = Prepare(2, [MOVE], 1000, 0, 0.0)
EXPECT = Expect(2, 0, 1, from_flash=[], flash_end_s=0.0)
SHIPMENT = Shipment(MOVED, 0, 1, 0, 0, 0, with_weights=True)
PEER = Peer(1, "memory://d1", Path((Hop(0, 1e6, 0.01),), 0.0, 0.0))
SHIP = Ship(2, 0, 0.0, CHUNK_BYTES, [SHIPMENT], [PEER])
CHUNK = ShipmentChunk(ChunkHeader(2, 0, SHIPMENT, 0, 1000, 0), b"some")


def commit(epoch: int) -> Commit:
    return Commit(epoch, [], [])


# What has been told to the second device of a pair, the message that is not legal, and what is said of it.
ILLEGAL: dict[str, tuple[list[ToDevice], ToDevice, str]] = {
    "no second Open": (
        [OPEN],
        OPEN,
        "Open of sequence 0, but sequence 0 is open; legal is Start, Close. "
        "Before that: Assign of epoch 1; Begin; Open of sequence 0",
    ),
    "no Start of a sequence that is not open": (
        [OPEN],
        Start(7, 0, 1, 0.0, 0, [1]),
        "Start of step 0 of sequence 7, but sequence 7 is closed; legal is Open.",
    ),
    "no Close twice": ([OPEN, Close(0)], Close(0), "Close of sequence 0, but sequence 0 is closed; legal is Open."),
    "no second Assign of an epoch": (
        [],
        Assign(1, {}, [], []),
        "Assign of epoch 1, but epoch 1 has been; legal is a later epoch.",
    ),
    "no Expect before Prepare": (
        [],
        EXPECT,
        "Expect of round 0 of epoch 2, but its migration is not under way; legal is Prepare, Ship, Commit, Abort, "
        "Follow.",
    ),
    "no second Prepare": (
        [PREPARE],
        Prepare(3, [], 0, 0, 0.0),
        "Prepare of epoch 3, but its migration to epoch 2 is prepared; legal is Expect, ShipmentChunk, Abort.",
    ),
    "no Commit of what was only prepared": (
        [PREPARE],
        commit(2),
        "Commit of epoch 2, but its migration to epoch 2 is prepared; legal is Expect, ShipmentChunk, Abort. "
        "Before that: Assign of epoch 1; Begin; Prepare of epoch 2",
    ),
    "no Expect of another epoch": (
        [PREPARE],
        Expect(4, 0, 1, from_flash=[], flash_end_s=0.0),
        "Expect of round 0 of epoch 4, but its migration to epoch 2 is prepared; legal is epoch 2.",
    ),
    "no Commit of another epoch": (
        [SHIP],
        commit(3),
        "Commit of epoch 3, but its migration to epoch 2 is sending; legal is epoch 2.",
    ),
    "no Prepare of the epoch in use": (
        [],
        Prepare(1, [], 0, 0, 0.0),
        "Prepare of epoch 1, but epoch 1 has been; legal is a later epoch.",
    ),
    "no Ship of what was aborted": (
        [PREPARE, Abort(2)],
        SHIP,
        "Ship of round 0 of epoch 2, but epoch 2 has been; legal is a later epoch. "
        "Before that: Assign of epoch 1; Begin; Prepare of epoch 2; Abort of epoch 2",
    ),
    "no Abort of what is committed": (
        [SHIP, commit(2)],
        Abort(2),
        "Abort of epoch 2, but epoch 2 has been; legal is a later epoch.",
    ),
    "nothing but Abort after a refusal": (
        [Prepare(2, [MOVE], 1 << 60, 0, 0.0)],
        EXPECT,
        "Expect of round 0 of epoch 2, but its migration to epoch 2 is refused; legal is Abort. "
        "Before that: Assign of epoch 1; Begin; Prepare of epoch 2; refused epoch 2",
    ),
    "no Follow in a migration": (
        [PREPARE],
        Follow(3, [], []),
        "Follow of epoch 3, but its migration to epoch 2 is prepared; legal is Expect, ShipmentChunk, Abort.",
    ),
    "no Halt before the epoch in use": ([], Halt(1), "Halt of epoch 1, but epoch 1 has been; legal is a later epoch."),
    "nothing after Stop": ([Stop()], Status(0.0), "Status, but the device is stopped; legal is nothing."),
}


def generation() -> Generation:
    """A model whose blocks are all on d0, but for a group of heads."""
    placement = Placement({block: int(block == head(1, 0)) for block in all_blocks(LLAMA)})
    return Generation(LLAMA, placement, DevicePair())


@pytest.mark.parametrize("what", ILLEGAL)
def test_a_message_out_of_order_is_refused_with_its_history(what: str) -> None:
    before, illegal, says = ILLEGAL[what]
    pair = generation().pair
    for request in before:
        pair.tell(1, request)
    states = pair.devices[1].states
    phases = states.device, states.migration, states.epoch
    with pytest.raises(ProtocolError) as refused:
        pair.tell(1, illegal)
    assert str(refused.value).startswith(f"d1: {says}")
    assert (states.device, states.migration, states.epoch) == phases


@pytest.mark.parametrize("request_", [Begin(0.0, 1.0, paced=False), OPEN, PREPARE, SHIP, Status(0.0), ForgetPeak()])
def test_a_device_without_blocks_is_only_assigned_or_stopped(request_: ToDevice) -> None:
    pair = DevicePair()
    says = "but the device is started and has no blocks; legal is Assign, Stop. Before that: nothing"
    with pytest.raises(ProtocolError, match=says):
        pair.tell(0, request_)
    with pytest.raises(ProtocolError, match="a chunk of head"):
        pair.devices[0].handle(CHUNK)


def test_links_are_probed_by_devices_that_take_part() -> None:
    with pytest.raises(ProtocolError, match="Probe, but the device is started"):
        DevicePair().tell(0, Probe(1, (4,), PEER))


def test_a_chunk_of_no_migration_is_refused() -> None:
    pair = generation().pair
    with pytest.raises(ProtocolError, match=r"a chunk of head\(0,1\) of epoch 2, but its migration is not under way"):
        pair.devices[1].handle(CHUNK)
    pair.tell(1, Prepare(3, [MOVE], 0, 0, 0.0))
    with pytest.raises(ProtocolError, match=r"a chunk of head\(0,1\) of epoch 2, but its migration to epoch 3"):
        pair.devices[1].handle(CHUNK)


def test_a_commit_before_all_has_arrived_is_refused() -> None:
    made = generation()
    made.open(0, [1, 2, 3], 4)
    made.generate(0)
    migration = made.migration({MOVED: 1})
    made.prepare(migration)
    made.ship(migration)
    held = made.pair.devices[1].ledger.page()
    with pytest.raises(ProtocolError, match="commit of epoch 2 before all of it has arrived"):
        made.pair.tell(1, commit(2))
    assert made.pair.devices[1].ledger.page() == held


def test_a_commit_while_a_step_is_under_way_is_refused() -> None:
    made = generation()
    made.open(0, [1, 2, 3], 4)
    made.start(0)
    made.pair.step()
    with pytest.raises(DataflowError, match="epoch 2 cannot follow epoch 1 with 1 steps under way"):
        made.pair.tell(0, commit(2))


def test_a_message_of_a_step_that_arrives_after_the_end_is_dropped() -> None:
    """It is of a step that was given up: links of the kernel may bring it late."""
    states = ProtocolStates("pi")
    with pytest.raises(ProtocolError, match="a message of a step, but the device is started and has no blocks"):
        states.takes_data()
    states.receive(Stop())
    assert not states.takes_data()


def test_the_history_is_bounded() -> None:
    pair = generation().pair
    for sequence in range(40):
        pair.tell(0, Open(sequence, 1, 2, 0.0, 0, 1.0, 0))
        pair.tell(0, Close(sequence))
    with pytest.raises(ProtocolError) as refused:
        pair.tell(0, Close(0))
    assert str(refused.value).count(";") == HISTORY


@pytest.mark.parametrize("table", [DEVICE, MIGRATION, SEQUENCE], ids=["device", "migration", "sequence"])
def test_every_state_of_a_table_can_be_reached_and_left(table: Mapping[object, Mapping[type, object]]) -> None:
    reached = {to for row in table.values() for to in row.values()}
    by_answer = {"REFUSED"}  # of the device itself
    assert {phase for phase in table if phase not in reached} <= {next(iter(table)), *_named(table, by_answer)}
    assert [phase for phase, row in table.items() if not row] == list(_named(table, {"STOPPED"}))


def _named(table: Mapping[object, object], names: set[str]) -> list[object]:
    return [phase for phase in table if getattr(phase, "name", "") in names]


def test_every_message_is_in_the_table_of_the_device() -> None:
    legal = {kind for row in DEVICE.values() for kind in row}
    assert set(get_args(ToDevice)) <= legal
    for table in (MIGRATION, SEQUENCE):
        assert {kind for row in table.values() for kind in row} <= legal
