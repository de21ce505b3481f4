"""Devices of a cluster: speed, memory, power, and how they vary over time."""

from dataclasses import dataclass

from edgeemu.cluster.variation import Variation, share_at, value


@dataclass(frozen=True, slots=True)
class Compute:
    """The speed of a device in absolute terms: the two limits of the roofline model, and a fixed cost."""

    flops_per_s: float
    mem_bytes_per_s: float
    overhead_s: float  # per block that is executed
    message_s: float = 0.0  # that a message keeps the processor of its sender busy, and that of its receiver
    byte_s: float = 0.0  # the same for each byte of a message

    @property
    def messages_cost(self) -> bool:
        """Whether messages take processor time here."""
        return self.message_s > 0 or self.byte_s > 0

    def slowed(self, slowdown: float) -> "Compute":
        """The speed at which everything takes `slowdown` times as long."""
        if slowdown == 1.0:
            return self
        return Compute(
            self.flops_per_s / slowdown,
            self.mem_bytes_per_s / slowdown,
            self.overhead_s * slowdown,
            self.message_s * slowdown,
            self.byte_s * slowdown,
        )


@dataclass(frozen=True, slots=True)
class Device:
    """A device. Either `compute` is given, or `host_fraction`: its speed as a share of one host core's."""

    index: int
    name: str
    profile: str | None
    compute: Compute | None
    host_fraction: float | None
    overhead_s: float
    memory_bytes: int  # for runs: without what its system keeps
    nic_bps: float | None  # full duplex, shared by all the device's links; None: no limit of its own
    availability: Variation | None = None  # the share of its speed that this run gets; None: all, always
    memory_availability: Variation | None = None  # the share of its memory
    idle_w: float | None = None  # power while it waits; None: not known
    busy_w: float | None = None  # power while it computes
    memory_reserved_bytes: int = 0  # that its system keeps
    message_overhead_s: float = 0.0  # that each message keeps the processor busy, sent or received
    byte_overhead_s: float = 0.0  # the same for each byte
    message_latency_s: float = 0.0  # that software here adds to the delay of a link; it is in the cluster's links

    def slowdown_at(self, t_s: float) -> float:
        """The factor by which everything takes longer at an instant than on the unloaded device."""
        return 1.0 / share_at(self.availability, t_s)

    def memory_at(self, t_s: float) -> int:
        """Bytes of memory that this run may use at an instant."""
        return memory_left_bytes(self.memory_bytes, self.memory_availability, t_s)


def memory_left_bytes(memory_bytes: int, availability: Variation | None, t_s: float) -> int:
    """Bytes of a device's memory that are available at an instant: never more than it has."""
    if availability is None:
        return memory_bytes
    return round(memory_bytes * min(1.0, max(0.0, value(availability, t_s))))
