"""Faults of a cluster: devices and links that fail, at an instant, a token, or at random. Pure data and draws."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from math import inf, log
from typing import NamedTuple

from edgeemu.cluster.keyed_random import block
from edgeemu.cluster.links import Change, LinkEnds, Outage


class FaultKind(StrEnum):
    """Kind of fault: of a device (the first six) or of links."""

    CRASH = "crash"  # its process ends
    OUT_OF_MEMORY = "out of memory"  # its system ends the process
    REBOOT = "reboot"  # it ends, and is there again with empty memory
    LEAVE = "leave"  # it leaves the network
    HANG = "hang"  # it stands still, and keeps its memory
    JOIN = "join"  # it was not there before
    DOWN = "down"  # messages wait, and are sent again when the link is up
    STALL = "stall"  # its rate is zero
    LOSS = "loss"  # it loses a share of the packets
    PARTITION = "partition"  # several links down: between groups of devices

    @property
    def ends_process(self) -> bool:
        """Whether the device's process ends, which is seen at once, and its memory is lost."""
        return self in (FaultKind.CRASH, FaultKind.OUT_OF_MEMORY, FaultKind.REBOOT, FaultKind.LEAVE)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `devices` are those that fail, or `links` with both of their directions, each by itself."""

    kind: FaultKind
    devices: tuple[int, ...] = ()
    links: tuple[LinkEnds, ...] = ()
    for_s: float | None = None  # until the device or link is there again; None: never
    loss: float = 0.0  # share of packets, of `LOSS`
    name: str = ""  # of what fails, as the scenario says it


class FaultEvent(NamedTuple):
    """A fault at an instant or, of which only the run knows when it is, at a token of the first sequence."""

    fault: Fault
    at_s: float | None = None
    at_token: int | None = None


@dataclass(frozen=True, slots=True)
class RandomFaults:
    """Faults of one device, of one link, or of a partition, as a Poisson process with a seed of its own."""

    fault: Fault
    rate_per_s: float
    seed: int

    def waits_s(self) -> Iterator[float]:
        """Times to the first fault, and from the end of each to the next, without end: exponential, of the same mean.

        A function of the seed alone: the run that meets the faults changes nothing of them.
        """
        for number in count():
            yield from (-log((word + 1) / 2**53) / self.rate_per_s for word in block(self.seed, number))


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All faults of a scenario."""

    events: tuple[FaultEvent, ...] = ()
    random: tuple[RandomFaults, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.events or self.random)

    @property
    def faults(self) -> list[Fault]:
        """Every fault that can happen."""
        return [event.fault for event in self.events] + [process.fault for process in self.random]

    @property
    def absent(self) -> frozenset[int]:
        """Devices that are not there at the beginning: they join later."""
        joining = (event.fault for event in self.events if event.fault.kind is FaultKind.JOIN)
        return frozenset(device for fault in joining for device in fault.devices)

    def at(self, token: int) -> list[Fault]:
        """Faults at the start of a token of the first sequence."""
        return [event.fault for event in self.events if event.at_token == token]


NO_FAULTS = FaultPlan()


def change_by(fault: Fault, at_s: float) -> Change | None:
    """The change of speeds and links by which a fault that begins at an instant shows; None: by its process alone."""
    until_s = inf if fault.for_s is None else at_s + fault.for_s
    match fault.kind:
        case FaultKind.HANG:
            return Change(devices=fault.devices, outage=Outage(until_s))
        case FaultKind.STALL:
            return Change(links=fault.links, outage=Outage(until_s))
        case FaultKind.DOWN | FaultKind.PARTITION:
            return Change(links=fault.links, outage=Outage(until_s, resent=True))
        case FaultKind.LOSS:
            return Change(links=fault.links, outage=Outage(until_s, loss=fault.loss))
    return None
