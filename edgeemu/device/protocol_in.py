"""What controller and device say to each other: one MessagePack frame a message. Knows no sockets and no time.

Data between devices is in `wire.py`.
"""

from typing import Any

import msgspec

from edgeemu.cluster.variation import Variation
from edgeemu.links.interface import Peer
from edgeemu.placement.blocks import Block
from edgeemu.placement.program import Op
from edgeemu.placement.shipments import Shipment


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
    ops: list[Op]
    peers: list[Peer]


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


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """A migration is planned: reserve memory for what is to come, or refuse. The routes stay as they are.

    Beside it `growth_bytes` must be free, for what the device has to grow, of its memory as it is at an instant.
    """

    epoch: int
    incoming: list[Block]
    reserve_bytes: int
    growth_bytes: int
    at_s: float


class Ship(msgspec.Struct, frozen=True, tag=True):
    """Send these parcels from an instant on, in this order to each target, in chunks of at most so many bytes."""

    epoch: int
    number: int
    at_s: float
    chunk_bytes: int
    shipments: list[Shipment]
    peers: list[Peer]


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
    ops: list[Op]
    leaving: list[Block]
    peers: list[Peer]


class Abort(msgspec.Struct, frozen=True, tag=True):
    """Forget a migration that was prepared: free what was reserved, drop what has come."""

    epoch: int


class ChangeDevice(msgspec.Struct, frozen=True, tag=True):
    """An event: from an instant on the device, or its way to others, is different. Paths are whole."""

    at_s: float
    speed: float | None = None
    memory_bytes: int | None = None
    peers: list[Peer] = []


class Probe(msgspec.Struct, frozen=True, tag=True):
    """Measure a link: send so many messages of a size to a device, one after the other; it tells what comes."""

    number: int
    messages: int
    payload_bytes: int
    peer: Peer


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
