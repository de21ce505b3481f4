"""The links of a device, of the kind that its controller chose. Gives them the wall clock."""

import sys
import time

import zmq

from edgeemu.device.protocol_in import DeviceConfig
from edgeemu.links.interface import Links
from edgeemu.links.kernel import KernelLinks
from edgeemu.links.receiver_thread import StampingInbox
from edgeemu.links.stamped import SharedPipes, StampedLinks
from edgeemu.links.unix_sockets import DeviceSockets

_SWITCH_INTERVAL_S = 1e-4  # longest wait of the receiving thread for the computing one


def make_links(spec: DeviceConfig, context: "zmq.Context[zmq.Socket[bytes]]") -> Links:
    """Opens the device's inbox; connections follow when peers are known."""
    if spec.links == "stamped":
        pipes = SharedPipes(spec.pipes_fd, spec.n_pipes)
        return StampedLinks(DeviceSockets(spec.address), spec.seed, pipes)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    inbox = StampingInbox(context, spec.address, time.monotonic)
    return KernelLinks(context, inbox, spec.seed, time.monotonic, hybrid=spec.links == "hybrid")
