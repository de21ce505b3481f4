"""Messages between controller and network process, one MessagePack frame each. Knows no sockets, no netlink."""

import msgspec

from edgeemu.links.messages import WireError
from edgeemu.links.netns.layout import NetworkLayout

IDENTITY = b"switchboard"  # precedes the network process's answers


class NetworkProcessConfig(msgspec.Struct, frozen=True):
    """The configuration that the process is forked with: where its controller listens, and where it listens itself."""

    control: str
    orders: str


class Build(msgspec.Struct, frozen=True, tag=True):
    """Join the network namespaces of these processes, one for each device. Nothing is shaped yet.

    For a device that is not there yet (None), one is made.
    """

    layout: NetworkLayout
    pids: tuple[int | None, ...]
    dilation: float = 1.0  # an estimate: it decides how large packets may be, before the first connection


class Shape(msgspec.Struct, frozen=True, tag=True):
    """Give every link its values at the start of the timeline, on a wall clock that is `dilation` times slower."""

    dilation: float


class BeginVariation(msgspec.Struct, frozen=True, tag=True):
    """Start the timeline: wall = start + dilation * emulated. Links that vary do so from now on."""

    start_s: float
    dilation: float


class ChangeQueues(msgspec.Struct, frozen=True, tag=True):
    """Change to another layout, after an event. It must have the same devices, veth pairs and queues."""

    layout: NetworkLayout


class StopNetwork(msgspec.Struct, frozen=True, tag=True):
    """Remove the network, and end."""


Order = Build | Shape | BeginVariation | ChangeQueues | StopNetwork


class NetworkReady(msgspec.Struct, frozen=True, tag="SwitchboardHello"):
    """The process has started."""


class Done(msgspec.Struct, frozen=True, tag="SwitchboardDone"):
    """An order has been carried out, and the kernel's settings have been read back."""

    order: str
    took_s: float
    namespaces: tuple[str, ...] = ()  # by device, where they are found (proc(5)) while this process lives


class Failed(msgspec.Struct, frozen=True, tag="SwitchboardFailed"):
    """An order could not be carried out, or a link could not be varied. The process ends."""

    message: str


Answer = NetworkReady | Done | Failed

_encoder = msgspec.msgpack.Encoder()
_orders: "msgspec.msgpack.Decoder[Order]" = msgspec.msgpack.Decoder(Order)
_answers: "msgspec.msgpack.Decoder[Answer]" = msgspec.msgpack.Decoder(Answer)


def encode(message: Order | Answer | NetworkProcessConfig) -> bytes:
    return _encoder.encode(message)


def decode_order(frame: bytes) -> Order:
    """Decodes an order. Raises: WireError, on anything else."""
    try:
        return _orders.decode(frame)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not an order to the network process: {error}") from error


def decode_answer(frame: bytes) -> Answer:
    """Decodes an answer. Raises: WireError, on anything else."""
    try:
        return _answers.decode(frame)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not an answer of the network process: {error}") from error
