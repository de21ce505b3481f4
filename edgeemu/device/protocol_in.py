"""What controller and device say to each other: one MessagePack frame a message. Knows no sockets and no time.

Data between devices is in `wire.py`.
"""

from typing import Any

import msgspec

from edgeemu.cluster.variation import Variation
from edgeemu.links.interface import PathSpec
from edgeemu.placement.blocks import Kind
from edgeemu.placement.program import Chunk, Collective, MessageKind, Op, RowRange, Slot


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


class DeviceConfig(msgspec.Struct, frozen=True):
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
    source: dict[str, Any]  # edgeemu_kernels.weights.sources.open_source
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


class ExpectedBlock(msgspec.Struct, frozen=True, array_like=True):
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
    incoming: list[ExpectedBlock]
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
    leaving: list[ExpectedBlock]
    paths: list[PathSpec]


class Abort(msgspec.Struct, frozen=True, tag=True):
    """Forget a migration that was prepared: free what was reserved, drop what has come."""

    epoch: int


class ChangeDevice(msgspec.Struct, frozen=True, tag=True):
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
    | ChangeDevice
    | Probe
    | Status
    | ForgetPeak
    | Stop
)


def op_spec(op: Op) -> OpSpec:
    return OpSpec(
        op.index, op.kind, op.layer, op.groups, op.device, op.needs, op.emits, op.to, op.parts, op.chunk, op.steps
    )


def op_from_spec(spec: OpSpec) -> Op:
    return Op(
        spec.index,
        Collective(spec.kind) if spec.kind in _JOINTS else Kind(spec.kind),
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
    return Slot(MessageKind(stage), layer, source, part)


_JOINTS = frozenset(Collective)
