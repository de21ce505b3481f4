"""Messages from the controller to a device, one MessagePack frame each. Knows no sockets and no time.

Messages between devices are in `edgeemu.links.messages`.
"""

from typing import Any

import msgspec

from edgeemu.cluster.variation import Variation
from edgeemu.links.interface import Peer
from edgeemu.placement.blocks import Block
from edgeemu.placement.placement import Move
from edgeemu.placement.program import Op
from edgeemu.placement.shipments import Shipment


class DeviceConfig(msgspec.Struct, frozen=True):
    """Settings that a device process is forked with: its identity, its resources, and the addresses of its sockets."""

    index: int
    name: str
    control: str  # where its controller listens
    requests: str  # where it listens for its controller
    address: str  # where it listens for other devices
    memory_bytes: int
    flops_per_s: float | None
    mem_bytes_per_s: float | None
    overhead_s: float
    host_fraction: float | None
    seed: int
    pipes_fd: int
    n_pipes: int
    links: str = "stamped"  # or kernel, or hybrid: then in a network namespace
    namespace: str = ""  # where that is found; empty: it makes one of its own
    availability: Variation | None = None  # share of its compute that other work leaves; None: all
    memory_availability: Variation | None = None
    reads: tuple[str, ...] = ()  # model files that it will open
    message_s: float = 0.0  # that each message keeps the processor busy, sent or received
    byte_s: float = 0.0  # the same for each byte
    survives: bool = False  # it goes on when a device that it sends to is gone: what it has for that one is dropped


class Assign(msgspec.Struct, frozen=True, tag=True):
    """Load the blocks of these operations, and connect to these peers. Answer: `Ready`."""

    epoch: int
    source: dict[str, Any]  # edgeemu_kernels.weights.sources.open_source
    ops: list[Op]
    peers: list[Peer]


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Start a timeline: wall = start + dilation * emulated. Not paced: virtual mode, nothing waits. Answer: `Ready`."""

    start_s: float
    dilation: float
    paced: bool


class Open(msgspec.Struct, frozen=True, tag=True):
    """Open a sequence: reserve its workspace. Answer: `Opened`."""

    sequence: int
    prompt_tokens: int
    total_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    keep_logits: bool = False


class Close(msgspec.Struct, frozen=True, tag=True):
    """Close a sequence: free what it holds. There is no answer."""

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
    """Reserve memory for blocks that will arrive, or refuse. The operations stay as they are. Answer: `Prepared`.

    In addition `growth_bytes` must be free, for what the device holds to grow; all of its memory at the instant `at_s`.
    If nothing is incoming, it reserves memory to cut what it has: other work is not in the way of that.
    """

    epoch: int
    incoming: list[Move]
    reserve_bytes: int
    growth_bytes: int
    at_s: float


class HoldReplicas(msgspec.Struct, frozen=True, tag=True):
    """Hold replicas of these blocks, with the bytes of each, and drop others. Answer: `Ready`.

    Rounds to replicas are of this epoch from now on, and those under way are given up. `load`: read all weights now.
    """

    epoch: int
    replicas: list[tuple[Block, int]]
    load: bool


class Ship(msgspec.Struct, frozen=True, tag=True):
    """Send these shipments from an instant on, in this order to each target, in chunks of `chunk_bytes` at most.

    They are of the migration under way, or go to replicas.
    """

    epoch: int
    number: int
    at_s: float
    chunk_bytes: int
    shipments: list[Shipment]
    peers: list[Peer]
    to_replicas: bool = False


class Expect(msgspec.Struct, frozen=True, tag=True):
    """Expect so many shipments in a round. Answer: `Arrived`, when all are complete.

    Weights of the blocks that are `from_flash` are read now, which takes until `flash_end_s` on the timeline.
    """

    epoch: int
    number: int
    shipments: int
    from_flash: list[Block]
    flash_end_s: float
    to_replicas: bool = False


class Commit(msgspec.Struct, frozen=True, tag=True):
    """Switch to a new placement: install what has arrived, run these operations, and free what they do not need."""

    epoch: int
    ops: list[Op]
    peers: list[Peer]


class Abort(msgspec.Struct, frozen=True, tag=True):
    """Abort a migration: free what was reserved, drop what has arrived. Answer: `Ready`."""

    epoch: int


class Halt(msgspec.Struct, frozen=True, tag=True):
    """Give up all steps in flight, and what arrives of epochs before this one, in which operations stay as they are.

    Blocks that migrate are not its business. Answer: `Ready`.
    """

    epoch: int


class Rewind(msgspec.Struct, frozen=True, tag=True):
    """Shorten caches, by sequence: those of the first `layers` layers to `rows`, others to `kept`. Answer: `Ready`."""

    rows: dict[int, int]
    layers: int
    kept: dict[int, int]


class Follow(msgspec.Struct, frozen=True, tag=True):
    """Run these operations on the blocks that are held, from now on. Answer: `Ready`.

    Steps that fill caches have at most `rows` rows, after `past` rows that are there.
    """

    epoch: int
    ops: list[Op]
    peers: list[Peer]
    rows: int = 0
    past: int = 0


class ChangeDevice(msgspec.Struct, frozen=True, tag=True):
    """Change the device, or its paths to `peers`, from an instant on. Answer: `Ready`."""

    at_s: float
    speed: float | None = None
    memory_bytes: int | None = None
    peers: list[Peer] = []
    still_until_s: float | None = None  # it stands still from then until this instant; infinite: for good


class Probe(msgspec.Struct, frozen=True, tag=True):
    """Measure a link: send messages of these sizes to a peer, one after the other. The peer answers `Probed`.

    They depart at `at_s`, in a run whose traffic they count to; None: at once, in a test before it.
    """

    number: int
    payload_bytes: tuple[int, ...]
    peer: Peer
    at_s: float | None = None


class Status(msgspec.Struct, frozen=True, tag=True):
    """Ask what other work leaves of the device at an instant, before a decision. Answer: `DeviceStatus`."""

    at_s: float


class ForgetPeak(msgspec.Struct, frozen=True, tag=True):
    """Measure memory peaks from now on: the steps so far were a warm-up. Answer: `Ready`."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End the process. Answer: `Bye`."""


ToDevice = (
    Assign
    | Begin
    | Open
    | Close
    | Start
    | Prepare
    | HoldReplicas
    | Ship
    | Expect
    | Commit
    | Abort
    | Halt
    | Rewind
    | Follow
    | ChangeDevice
    | Probe
    | Status
    | ForgetPeak
    | Stop
)
