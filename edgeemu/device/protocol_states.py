"""The legal order of the messages that a device receives.

All states of the protocol, and everything that changes them, are in this file (as in h11's `_state.py`). There are
three machines: of the device, of the migration under way (one at a time, named by its epoch), and of every sequence.
A message must be legal in each machine whose table lists it. A migration's messages must also be of its epoch.

    Assign -> Begin -> Open -> Start ... Close                     steps
                       Prepare -> Expect, Ship ... -> Commit       a migration: receivers are asked to prepare and told
                                                   -> Abort        what to expect, senders are told to ship
                       Halt -> Rewind ... -> Follow                after a loss: steps are given up, and run again
                       HoldReplicas -> Expect, Ship ...            beside all of that: rounds of an epoch of their own
"""

from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from edgeemu.device.protocol_in import (
    Abort,
    Assign,
    Begin,
    ChangeDevice,
    Close,
    Commit,
    Expect,
    Follow,
    ForgetPeak,
    Halt,
    HoldReplicas,
    Open,
    Prepare,
    Probe,
    Rewind,
    Ship,
    Start,
    Status,
    Stop,
    ToDevice,
)
from edgeemu.errors import EdgeemuError
from edgeemu.links.messages import Data, ShipmentChunk

Phase = TypeVar("Phase")

HISTORY = 16  # messages that an error names


class ProtocolError(EdgeemuError):
    """A message that is not legal in the state in which it arrived."""


class DevicePhase(Enum):
    STARTED = "started and has no blocks"
    ASSIGNED = "assigned, without a timeline"  # nothing is paced
    TIMED = "on its timeline"
    STOPPED = "stopped"


class MigrationPhase(Enum):
    NONE = "not under way"
    PREPARED = "prepared"  # memory is reserved for what will come
    REFUSED = "refused"  # there is no room for it
    RECEIVING = "receiving"
    SENDING = "sending"  # on a device that receives nothing


class SequencePhase(Enum):
    CLOSED = "closed"
    OPEN = "open"


_STEPS = (Open, Start, Data, Close)
_MIGRATION = (Prepare, Expect, Ship, ShipmentChunk, Commit, Abort, Follow)
_WORK = (*_STEPS, *_MIGRATION, HoldReplicas, Halt, Rewind, ChangeDevice, Status, ForgetPeak)

DEVICE: Mapping[DevicePhase, Mapping[type, DevicePhase]] = {
    DevicePhase.STARTED: {Assign: DevicePhase.ASSIGNED, Stop: DevicePhase.STOPPED},
    DevicePhase.ASSIGNED: {
        **dict.fromkeys((Assign, Probe, *_WORK), DevicePhase.ASSIGNED),
        Begin: DevicePhase.TIMED,
        Stop: DevicePhase.STOPPED,
    },
    DevicePhase.TIMED: {
        **dict.fromkeys((Assign, Begin, Probe, *_WORK), DevicePhase.TIMED),
        Stop: DevicePhase.STOPPED,
    },
    DevicePhase.STOPPED: {},
}

_TAKING_DATA = tuple(phase for phase, legal in DEVICE.items() if Data in legal)  # searched without hashing a phase

MIGRATION: Mapping[MigrationPhase, Mapping[type, MigrationPhase]] = {
    MigrationPhase.NONE: {
        Prepare: MigrationPhase.PREPARED,
        Ship: MigrationPhase.SENDING,
        Commit: MigrationPhase.NONE,  # of a device that neither receives nor sends
        Abort: MigrationPhase.NONE,
        Follow: MigrationPhase.NONE,  # it changes operations alone, so it is no migration
    },
    MigrationPhase.PREPARED: {
        Expect: MigrationPhase.RECEIVING,
        ShipmentChunk: MigrationPhase.PREPARED,  # it may overtake what the controller says of it
        Abort: MigrationPhase.NONE,
    },
    MigrationPhase.REFUSED: {Abort: MigrationPhase.NONE},
    MigrationPhase.RECEIVING: {
        Expect: MigrationPhase.RECEIVING,
        ShipmentChunk: MigrationPhase.RECEIVING,
        Ship: MigrationPhase.RECEIVING,
        Commit: MigrationPhase.NONE,
        Abort: MigrationPhase.NONE,
    },
    MigrationPhase.SENDING: {
        Ship: MigrationPhase.SENDING,
        Commit: MigrationPhase.NONE,
        Abort: MigrationPhase.NONE,
    },
}

SEQUENCE: Mapping[SequencePhase, Mapping[type, SequencePhase]] = {
    SequencePhase.CLOSED: {Open: SequencePhase.OPEN},
    SequencePhase.OPEN: {Start: SequencePhase.OPEN, Close: SequencePhase.CLOSED},
}


class ProtocolStates:
    """The states of one device, and the messages that led there."""

    def __init__(self, name: str) -> None:
        self.device = DevicePhase.STARTED
        self.migration = MigrationPhase.NONE
        self.epoch = -1  # of the placement in use
        self.migration_epoch = -1  # of the migration under way
        self.aborted_epoch = -1  # of the last migration that was aborted: chunks up to it may still arrive
        self.replica_epoch = -1  # of rounds to replicas: chunks of those before may still arrive
        self._name = name
        self._open: set[int] = set()
        self._history: deque[str] = deque(maxlen=HISTORY)

    def receive(self, request: ToDevice) -> None:
        """Changes the states as a message from the controller asks.

        Raises:
            ProtocolError: the message is not legal; no state has changed.
        """
        said = _described(request)
        device = self._following(f"the device is {self.device.value}", DEVICE[self.device], type(request), said)
        match request:
            case Assign():
                self._check_epoch(request.epoch, said)
                self.epoch, self.migration = request.epoch, MigrationPhase.NONE
                self._open.clear()
            case HoldReplicas():
                self.replica_epoch = request.epoch
            case Ship(to_replicas=True) | Expect(to_replicas=True):
                if request.epoch != self.replica_epoch:
                    raise self._illegal(said, "it is of other replicas", f"epoch {self.replica_epoch}")
            case Prepare() | Ship() | Expect() | Commit() | Abort() | Follow():
                self._follow_migration(request, said)
            case Halt():
                self._check_epoch(request.epoch, said)
            case Open() | Start() | Close():
                self._follow_sequence(request, said)
        self.device = device
        self._history.append(said)

    def refuse(self) -> None:
        """There is no room for what the migration brings."""
        self.migration = MigrationPhase.REFUSED
        self._history.append(f"refused epoch {self.migration_epoch}")

    def takes_data(self) -> bool:
        """Whether messages of steps are taken; False after the end, when those of steps that were given up may arrive.

        Raises:
            ProtocolError: there is no timeline that they could be of.
        """
        if self.device in _TAKING_DATA:
            return True
        if self.device is DevicePhase.STOPPED:
            return False
        raise self._illegal("a message of a step", f"the device is {self.device.value}", _names(DEVICE[self.device]))

    def takes(self, chunk: ShipmentChunk) -> bool:
        """Whether the chunk's round is under way; False if that was given up, and the chunk is to be dropped.

        Raises:
            ProtocolError: it is of another migration, or of none.
        """
        epoch = chunk.header.epoch
        if chunk.header.to_replica:
            return epoch == self.replica_epoch
        if epoch <= self.aborted_epoch:
            return False
        said = f"a chunk of {chunk.header.shipment.block} of epoch {epoch}"
        self._following(self._migration_state, MIGRATION[self.migration], ShipmentChunk, said)
        if epoch != self.migration_epoch:
            raise self._illegal(said, self._migration_state, f"epoch {self.migration_epoch}")
        return True

    def _follow_migration(self, request: Prepare | Ship | Expect | Commit | Abort | Follow, said: str) -> None:
        following = self._following(self._migration_state, MIGRATION[self.migration], type(request), said)
        if self.migration is MigrationPhase.NONE:
            self._check_epoch(request.epoch, said)
        elif request.epoch != self.migration_epoch:
            raise self._illegal(said, self._migration_state, f"epoch {self.migration_epoch}")
        if isinstance(request, Prepare) and not request.incoming:  # it puts together what it has
            following = MigrationPhase.SENDING
        self.migration, self.migration_epoch = following, request.epoch
        if isinstance(request, Commit | Follow):
            self.epoch = request.epoch
        if isinstance(request, Commit):
            self.replica_epoch = -1  # what replicas are needed now is told next
        if isinstance(request, Abort):
            self.aborted_epoch = request.epoch

    def _follow_sequence(self, request: Open | Start | Close, said: str) -> None:
        phase = SequencePhase.OPEN if request.sequence in self._open else SequencePhase.CLOSED
        state = f"sequence {request.sequence} is {phase.value}"
        if self._following(state, SEQUENCE[phase], type(request), said) is SequencePhase.OPEN:
            self._open.add(request.sequence)
        else:
            self._open.discard(request.sequence)

    def _following(self, state: str, legal: Mapping[type, Phase], kind: type, said: str) -> Phase:
        if kind not in legal:
            raise self._illegal(said, state, _names(legal))
        return legal[kind]

    def _check_epoch(self, epoch: int, said: str) -> None:
        last = max(self.epoch, self.aborted_epoch)
        if epoch <= last:
            raise self._illegal(said, f"epoch {last} has been", "a later epoch")

    @property
    def _migration_state(self) -> str:
        under_way = self.migration is not MigrationPhase.NONE
        return f"its migration{f' to epoch {self.migration_epoch}' if under_way else ''} is {self.migration.value}"

    def _illegal(self, said: str, state: str, legal: str) -> ProtocolError:
        before = "; ".join(self._history) or "nothing"
        return ProtocolError(f"{self._name}: {said}, but {state}; legal is {legal}. Before that: {before}")


def _names(legal: Mapping[type, object]) -> str:
    return ", ".join(kind.__name__ for kind in legal) or "nothing"


def _described(request: ToDevice) -> str:
    match request:
        case Start():
            return f"Start of step {request.step} of sequence {request.sequence}"
        case Open() | Close():
            return f"{type(request).__name__} of sequence {request.sequence}"
        case Ship() | Expect():
            return f"{type(request).__name__} of round {request.number} of epoch {request.epoch}"
        case Assign() | Prepare() | Commit() | Abort() | Halt() | Follow() | HoldReplicas():
            return f"{type(request).__name__} of epoch {request.epoch}"
        case _:
            return type(request).__name__
