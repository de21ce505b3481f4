"""Transfers at a device: chunks that arrive, and test messages. Where they cost time, they wait beside operations.

Pure: what has to be sent or told is returned as instructions.
"""

from collections.abc import Callable
from functools import partial
from itertools import count

import msgspec

from edgeemu.device.instructions import Connect, Instruction, Send, SendProbes, Tell
from edgeemu.device.link_probe import LinkProbe, probe_bytes, probe_messages
from edgeemu.device.migration import DeviceMigration
from edgeemu.device.pacing import Pacer
from edgeemu.device.protocol_in import DeviceConfig, Probe
from edgeemu.device.protocol_out import TransfersHandled
from edgeemu.device.protocol_states import ProtocolStates
from edgeemu.device.step_runner import StepRunner
from edgeemu.links.messages import Data, ShipmentChunk, data_bytes
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.timeline.transfers import Transfer

Hold = Callable[[float, ShipmentChunk | Probe], None]


class DeviceTransfers:
    """Transfers that a device takes in, and test messages that it sends, before and after it is assigned blocks."""

    def __init__(self, config: DeviceConfig, pacer: Pacer, states: ProtocolStates, hold: Hold) -> None:
        """`hold` keeps a transfer until an instant, when it is to be `due`."""
        self._name, self._index = config.name, config.index
        self._pacer, self._states, self._hold = pacer, states, hold
        self._probes = LinkProbe(config.name)
        self._number = count()
        self._runner: StepRunner | None = None
        self._migration: DeviceMigration

    def assign(self, runner: StepRunner, migration: DeviceMigration) -> None:
        """The device has been assigned blocks."""
        self._runner, self._migration = runner, migration

    def take_chunk(self, chunk: ShipmentChunk) -> list[Instruction]:
        """Takes a chunk in at once where that costs no time: nothing waits for it, and its arrival is told with it.

        Elsewhere it is held until it has arrived.
        """
        is_current, header = self._states.takes(chunk), chunk.header
        self._assigned.transits.passed(header.shipment.source, self._index, 0.0, header.arrival_s)
        if header.to_replica:
            self._assigned.take_to_replica(chunk)
        if is_current and self._pacer.messages_cost:
            self._hold(header.arrival_s, chunk)
            return []
        return self._migration.take_chunk(chunk) if is_current else []

    def probe(self, request: Probe) -> list[Instruction]:
        """Sends test messages: at an instant of the run, or at once."""
        if request.at_s is not None:
            self._assigned.sent_bytes[request.peer.device] += sum(probe_bytes(request))
            if self._pacer.messages_cost:
                self._hold(request.at_s, request)
                return [Connect([request.peer])]
        return [Connect([request.peer]), SendProbes(request)]

    def due(self, transfer: ShipmentChunk | Probe) -> None:
        """Queues what was held until now; a chunk whose migration was aborted meanwhile is dropped."""
        runner = self._assigned
        if isinstance(transfer, ShipmentChunk):
            if self._states.takes(transfer):
                header, size_bytes = transfer.header, MESSAGE_HEADER_BYTES + len(transfer.payload)
                taken = Transfer(False, size_bytes, partial(self._chunk_taken, transfer))
                runner.queue(taken, header.arrival_s, header.shipment.source, next(self._number))
            return
        assert transfer.at_s is not None, "only what departs at an instant of the run is held"
        target = transfer.peer.device
        for message in probe_messages(transfer, self._index, transfer.at_s):
            sent = Transfer(True, data_bytes(message.payload), partial(_send, message, target))
            runner.queue(sent, transfer.at_s, target, message.step)

    def take_probe(self, message: Data, released_s: float) -> list[Instruction]:
        """Takes in a test message that has arrived."""
        if self._runner is not None:
            self._runner.transits.passed(message.source, self._index, message.departure_s, message.arrival_s)
            if self._pacer.messages_cost:
                taken = partial(self._probe_taken, message, released_s)
                transfer = Transfer(False, data_bytes(message.payload), taken)
                self._runner.queue(transfer, message.arrival_s, message.source, message.step)
                return []
        return self._probe_taken(message, released_s)

    def told(self) -> list[Instruction]:
        """Tells of transfers that have kept the device busy, if any have since the last call."""
        handled = self._runner.take_handled() if self._runner is not None else []
        return [Tell(TransfersHandled(self._name, handled))] if handled else []

    def _chunk_taken(self, chunk: ShipmentChunk, at_s: float) -> list[Instruction]:
        if not self._states.takes(chunk):
            return []
        header = msgspec.structs.replace(chunk.header, arrival_s=at_s)
        return self._migration.take_chunk(ShipmentChunk(header, chunk.payload))

    def _probe_taken(self, message: Data, released_s: float, _: float = 0.0) -> list[Instruction]:
        probed = self._probes.take(message, released_s)
        return [] if probed is None else [Tell(probed)]

    @property
    def _assigned(self) -> StepRunner:
        assert self._runner is not None, "nothing that needs blocks is legal before Assign"
        return self._runner


def _send(message: Data, target: int, at_s: float) -> list[Instruction]:
    return [Send(msgspec.structs.replace(message, departure_s=at_s, arrival_s=at_s), [target])]
