"""Messages from a device to the controller."""

import msgspec

from edgeemu.links.interface import ProbeRecord
from edgeemu.timeline.network import Transit
from edgeemu.timeline.steps import OperationRecord
from edgeemu.timeline.traffic import PathTraffic

# -- device -> controller -----------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The process is there. `resident_bytes` is its baseline, before any weights; `scheduling` how it waits."""

    name: str
    resident_bytes: int
    scheduling: str = ""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Done with the request of that name (Assign, Begin, Commit …). `held` is the ledger's page."""

    name: str
    request: str
    held: dict[str, int] = {}


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Open`: steps of the sequence may come. `held` is the ledger's page."""

    name: str
    sequence: int
    held: dict[str, int] = {}


class Report(msgspec.Struct, frozen=True, tag=True):
    """All that a device did for one step, after the last of its operations."""

    name: str
    sequence: int
    step: int
    epoch: int
    operations: list[OperationRecord]
    used_bytes: int
    peak_bytes: int
    reordered: int = 0  # messages that met a pipe out of the order of departure
    transits: list[Transit] = []
    traffic: list[PathTraffic] = []  # messages of this step that it has received, where devices are paced
    held: dict[str, int] = {}  # the ledger's page


class DeviceStatus(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Status`: what other work leaves of the device at that instant, as its own meters would say."""

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
    """The answer to `Prepare`. `refusal` says why not; empty: memory is reserved."""

    name: str
    epoch: int
    refusal: str


class Arrived(msgspec.Struct, frozen=True, tag=True):
    """All of a round has come, the last of it at this instant."""

    name: str
    device: int
    epoch: int
    number: int
    at_s: float


class Probed(msgspec.Struct, frozen=True, tag=True):
    """All messages of a burst have come."""

    name: str
    source: int
    number: int
    records: list[ProbeRecord]


class Failure(msgspec.Struct, frozen=True, tag=True):
    """The device cannot go on: `out of memory`, `model file`, `link`, `protocol`."""

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


FromDevice = Hello | Ready | Opened | Report | DeviceStatus | Token | Prepared | Arrived | Probed | Failure | Bye
