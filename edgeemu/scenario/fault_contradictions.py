"""Contradictions of faults and recovery with the rest of a scenario, each with the position of its field."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING

from edgeemu.scenario.contradictions import Contradiction, no_device, not_one, of_when_and_link
from edgeemu.scenario.document import Position
from edgeemu.scenario.recovery import FLASH
from edgeemu.topologies import End
from edgeemu.units import DURATION

if TYPE_CHECKING:
    from edgeemu.scenario.faults import FaultSpec
    from edgeemu.scenario.scenario import Scenario

MAX_PROCESSES = 10_000  # random processes of one entry: as many as there can be devices


def fault_contradictions(scenario: Scenario) -> Iterator[Contradiction]:
    """Contradictions of a scenario's faults and recovery with its other sections, and of faults with each other."""
    if scenario.faults and scenario.cost.formulas == "literal":
        yield ("faults",), "need physical costs, which say what is lost and restored; these are literal"
    for n, fault in enumerate(scenario.faults):
        yield from _of_fault(scenario, ("faults", n), fault)
    joins = [(n, device) for n, fault in enumerate(scenario.faults) for device in _joining(scenario, fault)]
    for n, device in joins:
        if any(other == device and earlier < n for earlier, other in joins):
            name = scenario.device_names[device]
            yield ("faults", n), f"{name} joins twice; one that was there before has for: at its fault"
    for unit in ("at", "at_token"):
        yield from _of_order(scenario, unit)
    yield from _of_recovery(scenario)


def _of_fault(scenario: Scenario, position: Position, fault: FaultSpec) -> Iterator[Contradiction]:
    unknown = next((name for name in fault.device or () if not scenario.members(name)), None)
    if unknown is not None:
        yield (*position, "device"), no_device(scenario, unknown)
        return
    yield from of_when_and_link(scenario, position, fault)
    source = scenario.source_index
    if source in _joining(scenario, fault):
        yield (*position, "device"), f"{scenario.device_names[source]} is where prompts arrive: it cannot join later"
    if not fault.is_of_devices and len(scenario.device_names) == 1:
        yield position, "there is no link: there is one device"
    if fault.partition is not None:
        yield from _of_partition(scenario, (*position, "partition"), fault.partition)
    elif not fault.is_of_devices and fault.link is None and _n_links(scenario) > MAX_PROCESSES:
        yield position, f"there are {_n_links(scenario):,} links; name some: at most {MAX_PROCESSES:,} fail at random"


def _of_partition(
    scenario: Scenario, position: Position, groups: tuple[tuple[str, ...], ...]
) -> Iterator[Contradiction]:
    seen: set[End] = set()
    for n, names in enumerate(groups):
        for k, name in enumerate(names):
            ends = set(scenario.ends(name))
            if not ends:
                yield (*position, n, k), no_device(scenario, name)
                return
            if ends & seen:
                yield (*position, n, k), f'"{name}" is in two groups'
            seen |= ends
        if n and not names:
            yield (*position, n), "is a group without devices"
    if not groups[0] and len(seen - {None}) == len(scenario.device_names):
        yield (*position, 0), "is a group without devices: all are named in others"


def _joining(scenario: Scenario, fault: FaultSpec) -> list[int]:
    """Devices that join by a fault."""
    names = fault.device or () if fault.fault == "join" else ()
    return [device for name in names for device in scenario.members(name)]


def _n_links(scenario: Scenario) -> int:
    """Number of links, both directions together."""
    n = len(scenario.device_names)
    return n * (n - 1) // 2 if scenario.network.topology == "mesh" else n


def _of_order(scenario: Scenario, unit: str) -> Iterator[Contradiction]:
    """Faults of a device that is not there, of those with an instant, or of those with a token."""
    by_device: dict[int, list[tuple[float, int, FaultSpec]]] = defaultdict(list)
    for n, fault in enumerate(scenario.faults):
        begin = getattr(fault, unit)
        names = fault.device or () if begin is not None else ()
        for device in {device for name in names for device in scenario.members(name)}:
            by_device[device].append((begin, n, fault))
    for device, faults in by_device.items():
        name = scenario.device_names[device]
        away_until = next((begin for begin, _, fault in faults if fault.fault == "join"), -inf)
        why = f"joins at {_shown(away_until, unit)}"
        for begin, n, fault in sorted(faults, key=lambda found: found[:2]):
            if fault.fault == "join":
                continue
            if begin < away_until:
                yield ("faults", n, unit), f"{name} is not there at {_shown(begin, unit)}: it {why}"
            if fault.duration is None:
                away_until, why = inf, f"fails for good at {_shown(begin, unit)} (without for:)"
            elif unit == "at":
                away_until = begin + fault.duration
                why = f"fails at {_shown(begin, unit)} for {DURATION.format_human(fault.duration)}"


def _shown(begin: float, unit: str) -> str:
    return f"token {begin}" if unit == "at_token" else DURATION.format_human(begin)


def _of_recovery(scenario: Scenario) -> Iterator[Contradiction]:
    recovery, n_devices = scenario.recovery, len(scenario.device_names)
    stores = range(0) if recovery.weights == FLASH else scenario.members(recovery.weights)
    position = ("recovery", "weights")
    if recovery.weights != FLASH and (problem := not_one(scenario, recovery.weights)):
        yield position, problem if stores else f"{problem}; give one, or flash"
    if recovery.caches == "none":
        return
    if scenario.cost.formulas == "literal":
        yield ("recovery",), "needs physical costs; these are literal"
    if scenario.sharding.collectives == "gather":
        yield ("recovery",), "moves blocks, and with collectives: gather they stay; give recovery: none"
    joining = {device for fault in scenario.faults for device in _joining(scenario, fault)}
    if joining.intersection(stores):
        yield position, f"{recovery.weights} joins later, and weights can be lost before"
    if recovery.caches == "replicate" and recovery.replicas >= n_devices:
        yield ("recovery", "replicas"), f"{recovery.replicas} on other devices need more than {n_devices} devices"
