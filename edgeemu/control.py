"""What controller and device say to each other: one MessagePack frame a message. Knows no sockets and no time.

Data between devices is in `wire.py`.
"""

from typing import Any, TypeVar

import msgspec

from edgeemu.blocks import Kind
from edgeemu.cluster import Hop
from edgeemu.program import Chunk, Joint, Op, RowRange, Slot, Stage
from edgeemu.variation import Variation
from edgeemu.wire import WireError

# -- controller -> device -----------------------------------------------------------------------------------------


class PathSpec(msgspec.Struct, frozen=True):
    """How this device reaches another: its address, and the pipes on the way."""

    target: int
    address: str
    hops: list[Hop]
    jitter_s: float
    loss: float


class OpSpec(msgspec.Struct, frozen=True):
    """`routes.Op` as plain data."""

    index: int
    kind: str
    layer: int
    groups: tuple[int, ...]
    device: int
    needs: tuple[tuple[int, int, int, int], ...]
    emits: tuple[int, int, int, int]
    to: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]
    chunk: tuple[int, int]
    steps: tuple[int, int]


class DeviceSpec(msgspec.Struct, frozen=True):
    """What a process is told when it is forked: who it is and where its controller listens."""

    index: int
    name: str
    control: str
    address: str
    memory_bytes: int
    flops_per_s: float | None
    mem_bytes_per_s: float | None
    overhead_s: float
    host_fraction: float | None
    seed: int
    pipes_fd: int
    n_pipes: int
    links: str = "stamped"  # or kernel, or hybrid: then in a network namespace of its own
    availability: Variation | None = None  # the share of compute that is left to us; None: all
    memory_availability: Variation | None = None


class Assign(msgspec.Struct, frozen=True, tag=True):
    """Load these operations' blocks, and take these routes."""

    epoch: int
    source: dict[str, Any]  # edgeemu_kernels.weights.open_source
    ops: list[OpSpec]
    paths: list[PathSpec]


class Begin(msgspec.Struct, frozen=True, tag=True):
    """The timeline starts: wall = start + dilation * emulated. Not paced: virtual mode, nothing waits."""

    start_s: float
    dilation: float
    paced: bool


class Open(msgspec.Struct, frozen=True, tag=True):
    """A sequence begins: reserve its caches and workspace."""

    sequence: int
    prompt_tokens: int
    total_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    keep_logits: bool = False


class Close(msgspec.Struct, frozen=True, tag=True):
    """A sequence has ended: free what it holds. There is no answer."""

    sequence: int


class Start(msgspec.Struct, frozen=True, tag=True):
    """Release a step at an instant: to the embedding with a prompt, or to the output matrix with the sampled token."""

    sequence: int
    step: int
    epoch: int
    at_s: float
    position: int
    ids: list[int]


class Incoming(msgspec.Struct, frozen=True, array_like=True):
    """A block that is to come, and the device that has it."""

    kind: str
    layer: int
    group: int
    source: int


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """A migration is planned: reserve memory for what is to come, or refuse. The routes stay as they are.

    Beside it `growth_bytes` must be free, for what the device has to grow, of its memory as it is at an instant.
    """

    epoch: int
    incoming: list[Incoming]
    reserve_bytes: int
    growth_bytes: int
    at_s: float


class ShipmentSpec(msgspec.Struct, frozen=True, array_like=True):
    """`migration.Shipment` as plain data, without its source, which is who is told."""

    kind: str
    layer: int
    group: int
    target: int
    sequence: int
    first_row: int
    end_row: int
    with_weights: bool


class Ship(msgspec.Struct, frozen=True, tag=True):
    """Send these parcels from an instant on, in this order to each target, in chunks of at most so many bytes."""

    epoch: int
    number: int
    at_s: float
    chunk_bytes: int
    shipments: list[ShipmentSpec]
    paths: list[PathSpec]


class Expect(msgspec.Struct, frozen=True, tag=True):
    """A round begins: so many parcels will come. Weights on flash are read now, which takes until `flash_end_s`."""

    epoch: int
    number: int
    parcels: int
    from_flash: bool
    flash_end_s: float


class Commit(msgspec.Struct, frozen=True, tag=True):
    """Switch: take in what has come, let go of `leaving`, and follow these routes."""

    epoch: int
    ops: list[OpSpec]
    leaving: list[Incoming]
    paths: list[PathSpec]


class Abort(msgspec.Struct, frozen=True, tag=True):
    """Forget a migration that was prepared: free what was reserved, drop what has come."""

    epoch: int


class Change(msgspec.Struct, frozen=True, tag=True):
    """An event: from an instant on the device, or its way to others, is different. Paths are whole."""

    at_s: float
    speed: float | None = None
    memory_bytes: int | None = None
    paths: list[PathSpec] = []


class Probe(msgspec.Struct, frozen=True, tag=True):
    """Measure a link: send so many messages of a size to a device, one after the other; it tells what comes."""

    number: int
    target: int
    messages: int
    payload_bytes: int
    path: PathSpec


class Status(msgspec.Struct, frozen=True, tag=True):
    """How is the device at an instant? Asked before a decision; the answer is `State`."""

    at_s: float


class ForgetPeak(msgspec.Struct, frozen=True, tag=True):
    """Measure peaks from now on: what came before was a warm-up."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End."""


ToDevice = (
    Assign
    | Begin
    | Open
    | Close
    | Start
    | Prepare
    | Ship
    | Expect
    | Commit
    | Abort
    | Change
    | Probe
    | Status
    | ForgetPeak
    | Stop
)


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


class State(msgspec.Struct, frozen=True, tag=True):
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


FromDevice = Hello | Ready | Opened | Report | State | Token | Prepared | Arrived | Probed | Failure | Bye


def op_spec(op: Op) -> OpSpec:
    return OpSpec(
        op.index, op.kind, op.layer, op.groups, op.device, op.needs, op.emits, op.to, op.parts, op.chunk, op.steps
    )


def op_from_spec(spec: OpSpec) -> Op:
    return Op(
        spec.index,
        Joint(spec.kind) if spec.kind in _JOINTS else Kind(spec.kind),
        spec.layer,
        spec.groups,
        spec.device,
        tuple(_slot(*need) for need in spec.needs),
        _slot(*spec.emits),
        spec.to,
        spec.parts,
        Chunk(*spec.chunk),
        RowRange(*spec.steps),
    )


def _slot(stage: int, layer: int, source: int, part: int) -> Slot:
    return Slot(Stage(stage), layer, source, part)


_JOINTS = frozenset(Joint)

Message = TypeVar("Message")

_encoder = msgspec.msgpack.Encoder()
_to_device: "msgspec.msgpack.Decoder[ToDevice]" = msgspec.msgpack.Decoder(ToDevice)
_from_device: "msgspec.msgpack.Decoder[FromDevice]" = msgspec.msgpack.Decoder(FromDevice)


def encode(message: ToDevice | FromDevice | DeviceSpec) -> bytes:
    return _encoder.encode(message)


def decode_for_device(frame: bytes) -> ToDevice:
    """Raises: WireError, on anything that is not such a message."""
    return _decoded(_to_device, frame)


def decode_for_controller(frame: bytes) -> FromDevice:
    """Raises: WireError, on anything that is not such a message."""
    return _decoded(_from_device, frame)


def _decoded(decoder: "msgspec.msgpack.Decoder[Message]", frame: bytes) -> Message:
    try:
        return decoder.decode(frame)
    except (ValueError, RecursionError) as error:  # msgspec's own errors, and text that is not UTF-8, are ValueErrors
        raise WireError(f"not a control message of this version: {error}") from error
