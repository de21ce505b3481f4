"""Messages from a device to the controller."""

import msgspec

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


class OpRecord(msgspec.Struct, frozen=True, array_like=True):
    """One execution as a device saw it. In virtual mode the three instants are 0."""

    index: int
    rows: int
    ready_s: float
    start_s: float
    end_s: float
    cpu_s: float
    late_s: float
    overrun: bool


class TransitRecord(msgspec.Struct, frozen=True, array_like=True):
    """Messages of one size that have come from one device: `network.Transit`, without who tells it."""

    source: int
    size_bytes: int
    messages: int
    sum_s: float


class Report(msgspec.Struct, frozen=True, tag=True):
    """All that a device did for one step, after the last of its operations."""

    name: str
    sequence: int
    step: int
    epoch: int
    ops: list[OpRecord]
    used_bytes: int
    peak_bytes: int
    reordered: int
    transits: list[TransitRecord] = []
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


class ProbeRecord(msgspec.Struct, frozen=True, array_like=True):
    """One message of a burst: its size, its instants on the timeline, and when the receiver let it through."""

    size_bytes: int
    departure_s: float
    arrival_s: float
    released_s: float


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
    """The last word: what the process held, and sent to whom. `resident_bytes` is its peak."""

    name: str
    resident_bytes: int
    ledger: dict[str, int]
    peak_bytes: int
    sent_bytes: dict[int, int] = {}  # by receiver, since the timeline started


FromDevice = Hello | Ready | Opened | Report | DeviceStatus | Token | Prepared | Arrived | Probed | Failure | Bye
