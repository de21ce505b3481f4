"""Transfers: messages of no step, which are chunks of blocks that move and test messages, where they cost processors.

Devices and simulator share it: both queue what a transfer costs (`placement.message_overheads`) beside operations.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from edgeemu.timeline.clock import Occupation
from edgeemu.timeline.ready_queue import NO_STEP, Waiting

ResultT_co = TypeVar("ResultT_co", covariant=True)


class Transfer(NamedTuple, Generic[ResultT_co]):
    """Transfer that a device is to send or to take in. `then`: what follows, at the instant at which it has."""

    sends: bool
    size_bytes: int
    then: Callable[[float], ResultT_co]

    def waiting(self, ready_s: float, peer: int, number: int) -> Waiting:
        """Place in the device's queue. `peer`: the other device; `number`: among the transfers with that device."""
        return Waiting(ready_s, NO_STEP, peer, number, self.sends)


class HandledTransfer(NamedTuple):
    """Record of a transfer that has kept a device busy."""

    device: int
    sends: bool
    time: Occupation
