"""The links of a device, of the kind that its controller chose. Gives them the wall clock."""

import sys
import time

import zmq

from edgeemu.device.protocol_in import DeviceConfig
from edgeemu.links.interface import Links
from edgeemu.links.kernel import KernelLinks
from edgeemu.links.receiver_thread import StampingInbox
from edgeemu.links.stamped import SharedPipes, StampedLinks
from edgeemu.links.unix_sockets import UnixSockets

_SWITCH_INTERVAL_S = 1e-4  # longest wait of the receiving thread for the computing one


def make_links(spec: DeviceConfig) -> Links:
    """Opens the device's inbox; connections follow when peers are known."""
    if spec.links == "stamped":
        pipes, sockets = SharedPipes(spec.pipes_fd, spec.n_pipes), UnixSockets(spec.address)
        sockets.start_writer()  # before it is given the priority of threads that carry messages
        return StampedLinks(sockets, spec.seed, pipes, survives=spec.survives)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    inbox = StampingInbox(context, spec.address, time.monotonic)
    hybrid = spec.links == "hybrid"
    return KernelLinks(context, inbox, spec.seed, time.monotonic, hybrid=hybrid, survives=spec.survives)
