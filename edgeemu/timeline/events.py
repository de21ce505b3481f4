"""Events of the simulator, and those that are left when a device or the steps in flight are gone. Pure."""

from collections.abc import Callable, Iterable
from functools import partial
from heapq import heapify

from edgeemu.timeline.flow import Flow
from edgeemu.timeline.shipping import Shipped
from edgeemu.timeline.simulated_device import SimulatedDevice
from edgeemu.timeline.steps import TokenTime

Outcome = TokenTime | Shipped
Handler = Callable[[float], Outcome | None]
# Instant, number, place in the program, step in flight: an operation is ready (one message can make several ready), or,
# of place -1 - place, has ended. Where the last is not None, it says what happens instead.
Event = tuple[float, int, int, Flow | None, Handler | None]


def without_ends_on(device: SimulatedDevice, events: Iterable[Event]) -> list[Event]:
    """Return a heap of the events that are not the end of an operation or a transfer on a device."""
    left = [event for event in events if not _is_end_on(device, event)]
    heapify(left)
    return left


def without_steps(events: Iterable[Event], freed: Callable[[int], Handler]) -> list[Event]:
    """Return a heap of the events without those of steps; an operation that runs still frees its device at its end.

    `freed` returns what happens when an operation of no step any more ends on a device.
    """
    left: list[Event] = []
    for event in events:
        at_s, number, place, flow, handle = event
        if flow is None:
            left.append(event)
        elif handle is None and place < 0:
            left.append((at_s, number, 0, None, freed(flow.wiring.devices[-1 - place])))
    heapify(left)
    return left


def _is_end_on(device: SimulatedDevice, event: Event) -> bool:
    _, _, place, flow, handle = event
    if handle is None and flow is not None:
        return place < 0 and flow.wiring.devices[-1 - place] == device.index
    return isinstance(handle, partial) and bool(handle.args) and handle.args[0] is device
