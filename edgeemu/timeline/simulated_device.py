"""State of one device in the simulator."""

from dataclasses import dataclass, field

from edgeemu.cluster.variation import Variation
from edgeemu.timeline.flow import Flow
from edgeemu.timeline.ready_queue import ReadyQueue
from edgeemu.timeline.shipping import ShippedTransfer


@dataclass(slots=True)
class SimulatedDevice:
    """A device on the timeline: what it does, and what waits for it."""

    index: int
    availability: Variation | None
    message_s: float  # that a transfer takes, and for each of its bytes
    byte_s: float
    free_s: float = 0.0
    busy: bool = False
    ready: ReadyQueue[tuple[int, Flow] | ShippedTransfer] = field(default_factory=ReadyQueue)
