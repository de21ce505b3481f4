"""The network process of a run: it holds the kernel's network, carries out orders, and lets links vary in between.

It is forked like a device and lives in a network namespace of its own, the central one. When it ends, for whatever
reason, the kernel removes the bridge and all veth pairs to it.
"""

import gc
import os
import select
import time
from collections import deque
from math import inf
from typing import TYPE_CHECKING

import msgspec

from edgeemu.errors import EdgeemuError
from edgeemu.host.namespaces import own_network_namespace
from edgeemu.links.framing import framed
from edgeemu.links.netns import protocol
from edgeemu.links.unix_sockets import UnixSockets
from edgeemu.timeline.clock import WallClock

if TYPE_CHECKING:
    from edgeemu.links.netns.network import KernelNetwork


_LAST_ANSWER_S = 2.0  # for the last answer to get out


def run_network_process(spec_bytes: bytes) -> None:
    """Entry of the forked process; returns after `StopNetwork`. Raises: SystemExit, after it reported a failure."""
    spec = msgspec.msgpack.decode(spec_bytes, type=protocol.NetworkProcessConfig)
    controller = _ControlSockets(spec)
    try:
        _serve(controller)
    except OSError as error:
        controller.tell(protocol.Failed(f"network namespaces: {error}"))
        raise SystemExit(1) from error
    except EdgeemuError as error:
        controller.tell(protocol.Failed(str(error)))
        raise SystemExit(1) from error
    finally:
        controller.close()


class _ControlSockets:
    """Connections with the controller: answers out, orders in."""

    def __init__(self, spec: protocol.NetworkProcessConfig) -> None:
        self._address, self._sockets = spec.control, UnixSockets(spec.orders)
        self._orders: deque[protocol.Order] = deque()  # that have arrived

    def tell(self, answer: protocol.Answer) -> None:
        received = self._sockets.push(self._address, framed([protocol.IDENTITY, protocol.encode(answer)]))
        self._take(received)

    def order(self, timeout_s: float | None) -> protocol.Order | None:
        """Return the next order; None: there is none within that time. Without a limit it waits for ever."""
        if not self._orders:
            select.select([self._sockets], [], [], timeout_s)
            self._take(self._sockets.take())
        return self._orders.popleft() if self._orders else None

    def close(self) -> None:
        """Close the sockets when the last answer has left."""
        self._sockets.flush(_LAST_ANSWER_S)
        self._sockets.close()

    def _take(self, received: list[list[bytes]]) -> None:
        self._orders += [protocol.decode_order(frame) for _, frame in received]


def _serve(controller: _ControlSockets) -> None:
    own_network_namespace()
    from edgeemu.links.netns.network import KernelNetwork  # loads pyroute2, which no other process needs

    network = KernelNetwork()
    controller.tell(protocol.NetworkReady())
    gc.freeze()
    while True:
        order = _next_order(controller, network)
        began_s = time.monotonic()
        match order:
            case protocol.Build():
                network.build(order.layout, order.pids, order.dilation)
            case protocol.Shape():
                network.shape(order.dilation)
            case protocol.BeginVariation():
                network.follow(WallClock(order.start_s, order.dilation))
            case protocol.ChangeQueues():
                network.change(order.layout, began_s)
            case protocol.StopNetwork():
                network.close()
        namespaces = tuple(f"/proc/{os.getpid()}/fd/{descriptor}" for descriptor in network.namespaces)
        controller.tell(protocol.Done(type(order).__name__, time.monotonic() - began_s, namespaces))
        if isinstance(order, protocol.StopNetwork):
            return


def _next_order(controller: _ControlSockets, network: "KernelNetwork") -> protocol.Order:
    """Receives the next order. Until it arrives, links vary as they should."""
    while True:
        network.step(time.monotonic())
        due_s = network.due_wall_s
        order = controller.order(None if due_s == inf else max(0.0, due_s - time.monotonic()))
        if order is not None:
            return order
