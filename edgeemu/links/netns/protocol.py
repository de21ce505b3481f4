"""What controller and switchboard say to each other: one MessagePack frame a message. Knows no sockets, no netlink."""

import msgspec

from edgeemu.links.messages import WireError
from edgeemu.links.netns.layout import NetworkLayout


class NetworkProcessConfig(msgspec.Struct, frozen=True):
    """What the process is told when it is forked: where its controller listens."""

    control: str


class Build(msgspec.Struct, frozen=True, tag=True):
    """Join the network namespaces of these processes, one a device. Nothing is shaped yet."""

    layout: NetworkLayout
    pids: tuple[int, ...]
    dilation: float = 1.0  # as far as it is known: how large packets may be is decided before the first connection


class Shape(msgspec.Struct, frozen=True, tag=True):
    """Give every link what it has at the start of the timeline, for a wall clock that runs so many times as long."""

    dilation: float


class BeginVariation(msgspec.Struct, frozen=True, tag=True):
    """The timeline starts: wall = start + dilation * emulated. Links that vary do so from now on."""

    start_s: float
    dilation: float


class ChangeQueues(msgspec.Struct, frozen=True, tag=True):
    """An event: the wiring is this from now on. It must have the same devices, cables and queues."""

    layout: NetworkLayout


class StopNetwork(msgspec.Struct, frozen=True, tag=True):
    """Remove all of it, and end."""


Order = Build | Shape | BeginVariation | ChangeQueues | StopNetwork


class NetworkReady(msgspec.Struct, frozen=True, tag="SwitchboardHello"):
    """The process is there."""


class Done(msgspec.Struct, frozen=True, tag="SwitchboardDone"):
    """An order has been carried out, and what the kernel has was read back."""

    order: str
    took_s: float


class Failed(msgspec.Struct, frozen=True, tag="SwitchboardFailed"):
    """An order could not be carried out, or a variation could not be followed. The process ends."""

    message: str


Answer = NetworkReady | Done | Failed

_encoder = msgspec.msgpack.Encoder()
_orders: "msgspec.msgpack.Decoder[Order]" = msgspec.msgpack.Decoder(Order)
_answers: "msgspec.msgpack.Decoder[Answer]" = msgspec.msgpack.Decoder(Answer)


def encode(message: Order | Answer | NetworkProcessConfig) -> bytes:
    return _encoder.encode(message)


def decode_order(frame: bytes) -> Order:
    """Raises: WireError, on anything that is not one."""
    try:
        return _orders.decode(frame)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not an order to the switchboard: {error}") from error


def decode_answer(frame: bytes) -> Answer:
    """Raises: WireError, on anything that is not one."""
    try:
        return _answers.decode(frame)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not an answer of the switchboard: {error}") from error
