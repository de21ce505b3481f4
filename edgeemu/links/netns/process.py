"""The network process of a run: it holds the kernel's network, carries out orders, and lets links vary in between.

It is forked like a device and lives in a network namespace of its own, the central one. When it ends, for whatever
reason, the kernel removes the bridge and all veth pairs to it.
"""

import gc
import select
import time
from math import inf
from typing import TYPE_CHECKING

import msgspec
import zmq

from edgeemu.errors import EdgeemuError
from edgeemu.host.namespaces import own_network_namespace
from edgeemu.links.netns import protocol
from edgeemu.timeline.clock import WallClock

if TYPE_CHECKING:
    from edgeemu.links.netns.network import KernelNetwork


def run_network_process(spec_bytes: bytes) -> None:
    """Entry of the forked process; returns after `StopNetwork`. Raises: SystemExit, after it reported a failure."""
    spec = msgspec.msgpack.decode(spec_bytes, type=protocol.NetworkProcessConfig)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    control = context.socket(zmq.DEALER)
    control.setsockopt(zmq.IDENTITY, protocol.IDENTITY)
    control.setsockopt(zmq.LINGER, 2000)  # ms: the last answer must be sent
    control.connect(spec.control)
    try:
        _serve(control)
    except OSError as error:
        control.send(protocol.encode(protocol.Failed(f"network namespaces: {error}")))
        raise SystemExit(1) from error
    except EdgeemuError as error:
        control.send(protocol.encode(protocol.Failed(str(error))))
        raise SystemExit(1) from error
    finally:
        control.close()
        context.term()


def _serve(control: "zmq.Socket[bytes]") -> None:
    own_network_namespace()
    from edgeemu.links.netns.network import KernelNetwork  # loads pyroute2, which no other process needs

    network = KernelNetwork()
    control.send(protocol.encode(protocol.NetworkReady()))
    gc.freeze()
    while True:
        order = _next_order(control, network)
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
        control.send(protocol.encode(protocol.Done(type(order).__name__, time.monotonic() - began_s)))
        if isinstance(order, protocol.StopNetwork):
            return


def _next_order(control: "zmq.Socket[bytes]", network: "KernelNetwork") -> protocol.Order:
    """Receives the next order. Until it arrives, links vary as they should."""
    while True:
        network.step(time.monotonic())
        try:
            return protocol.decode_order(control.recv(zmq.NOBLOCK))
        except zmq.Again:
            due_s = network.due_wall_s
            timeout_s = None if due_s == inf else max(0.0, due_s - time.monotonic())
            select.select([control.FD], [], [], timeout_s)
