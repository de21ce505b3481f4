"""Messages from a device to the controller, one MessagePack frame each."""

import msgspec

from edgeemu.links.interface import ProbeRecord
from edgeemu.timeline.network import Transit
from edgeemu.timeline.traffic import PathTraffic
from edgeemu.timeline.transfers import HandledTransfer


class Hello(msgspec.Struct, frozen=True, tag=True):
    """Announce a process that has started: its memory without any weights, and how it waits."""

    name: str
    resident_bytes: int
    scheduling: str = ""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Acknowledge the request of that name (Assign, Begin, Commit …). `held` is the ledger's page."""

    name: str
    request: str
    held: dict[str, int] = {}


class Opened(msgspec.Struct, frozen=True, tag=True):
    """Answer to `Open`: the sequence may start. `held` is the ledger's page."""

    name: str
    sequence: int
    held: dict[str, int] = {}


class ExecutedOperation(msgspec.Struct, frozen=True, array_like=True):
    """An operation that a device has executed: its index in the program, and the rest of its `OperationRecord`."""

    place: int
    ready_s: float
    start_s: float
    end_s: float
    cpu_s: float
    late_s: float
    overrun: bool
    last_input: int = 0  # number of the input that arrived last


class Report(msgspec.Struct, frozen=True, tag=True):
    """Everything that a device did for one step, sent after the last of its operations."""

    name: str
    sequence: int
    step: int
    epoch: int
    operations: list[ExecutedOperation]
    used_bytes: int
    peak_bytes: int  # where devices are not paced: without steps, of which others may be under way
    reordered: int = 0  # messages that met a pipe out of the order of departure
    stalled_s: float = 0.0  # of the wall clock, that the process stood still since its last report
    transits: list[Transit] = []
    traffic: list[PathTraffic] = []  # messages of this step that it has received, where devices are paced
    held: dict[str, int] = {}  # the ledger's page
    replica_traffic: list[PathTraffic] = []  # chunks for replicas that it has received since the last such message
    grown_bytes: int = 0  # of caches, by this step's rows


class DeviceStatus(msgspec.Struct, frozen=True, tag=True):
    """Answer to `Status`: what other work leaves of the device at that instant, as its own meters would show it."""

    name: str
    availability: float
    memory_bytes: int
    used_bytes: int


class Token(msgspec.Struct, frozen=True, tag=True):
    """A sampled token, at its instant on the timeline and on the wall clock."""

    name: str
    sequence: int
    step: int
    token: int
    sampled_s: float
    wall_s: float
    logits: bytes = b""


class Prepared(msgspec.Struct, frozen=True, tag=True):
    """Answer to `Prepare`. `refusal` gives the reason; empty: memory is reserved."""

    name: str
    epoch: int
    refusal: str


class Arrived(msgspec.Struct, frozen=True, tag=True):
    """Report that a round is complete; its last byte arrived at this instant."""

    name: str
    device: int
    epoch: int
    number: int
    at_s: float


class Probed(msgspec.Struct, frozen=True, tag=True):
    """All messages of a link test that have arrived."""

    name: str
    source: int
    number: int
    records: list[ProbeRecord]


class TransfersHandled(msgspec.Struct, frozen=True, tag=True):
    """Report the transfers that have kept the device busy since the last report."""

    name: str
    transfers: list[HandledTransfer]


class Failure(msgspec.Struct, frozen=True, tag=True):
    """Report that the device cannot go on. `kind` is `out of memory`, `model file`, `link` or `protocol`."""

    name: str
    kind: str
    message: str


class Bye(msgspec.Struct, frozen=True, tag=True):
    """The last message of a device: what it held and sent. `resident_bytes` is the peak of its process."""

    name: str
    ledger: dict[str, int]
    peak_bytes: int
    sent_bytes: dict[int, int] = {}  # by receiver, since the timeline started
    resident_bytes: int = 0
    replica_traffic: list[PathTraffic] = []  # as in `Report`


FromDevice = (
    Hello
    | Ready
    | Opened
    | Report
    | DeviceStatus
    | Token
    | Prepared
    | Arrived
    | Probed
    | TransfersHandled
    | Failure
    | Bye
)
