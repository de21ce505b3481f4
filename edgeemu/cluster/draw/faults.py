"""From the faults of a scenario to those of its cluster: indexes for names, and a seed for each random process.

The seed of a process follows from the scenario's, from what fails and from how: it is the same under every policy, and
another device changes nothing of it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from edgeemu.cluster.faults import Fault, FaultEvent, FaultKind, FaultPlan, RandomFaults
from edgeemu.cluster.keyed_random import variation_seed
from edgeemu.cluster.links import LinkEnds
from edgeemu.scenario.faults import FaultSpec
from edgeemu.scenario.scenario import Scenario
from edgeemu.topologies import LINK_RULES, End


def draw_faults(scenario: Scenario) -> FaultPlan:
    """All faults of a scenario. Equal scenarios give equal faults."""
    events: list[FaultEvent] = []
    random: list[RandomFaults] = []
    alike: Counter[tuple[str, str]] = Counter()  # processes of one kind, of the same device or link
    for spec in scenario.faults:
        for fault in faults_of(scenario, spec):
            if spec.rate is None:
                events.append(FaultEvent(fault, spec.at, spec.at_token))
                continue
            key = str(fault.kind), fault.name
            seed = variation_seed(scenario.seed, "fault", *key, str(alike[key]))
            alike[key] += 1
            random.append(RandomFaults(fault, spec.rate, seed))
    return FaultPlan(tuple(events), tuple(random))


def faults_of(scenario: Scenario, spec: FaultSpec) -> Iterator[Fault]:
    """Faults of one entry: one of all its devices, or at random one of each; one of each link, or of a partition."""
    if spec.partition is not None:
        parts = groups(scenario, spec.partition)
        text = " | ".join(", ".join(scenario.end_name(end) for end in part) for part in parts)
        yield Fault(FaultKind.PARTITION, links=_between(scenario, parts), for_s=spec.duration, name=text)
        return
    assert spec.fault is not None  # FaultSpec has made sure
    fault = Fault(FaultKind(spec.fault), for_s=spec.duration, loss=spec.loss or 0.0)
    if spec.is_of_devices:
        failing = members(scenario, spec.device)
        for devices in [tuple(failing)] if spec.rate is None else [(device,) for device in failing]:
            names = ", ".join(scenario.device_names[device] for device in devices)
            yield replace(fault, devices=devices, name=names)
        return
    for a, b in link_pairs(scenario, spec.link):
        yield replace(fault, links=((a, b), (b, a)), name=f"{scenario.end_name(a)} – {scenario.end_name(b)}")


def members(scenario: Scenario, names: Sequence[str] | None) -> list[int]:
    """Devices that names stand for, in the order of the scenario; without names, all."""
    if names is None:
        return list(range(len(scenario.device_names)))
    return sorted({device for name in names for device in scenario.members(name)})


def link_pairs(scenario: Scenario, names: Sequence[str] | None) -> list[LinkEnds]:
    """Links between two names, each once and in the order of its ends; without names, all."""
    joined = LINK_RULES[scenario.network.topology].joined
    everything = _ends(scenario)
    a, b = (everything, everything) if names is None else (scenario.ends(name) for name in names)
    pairs = (sorted((i, j), key=_place) for i in a for j in b if joined(i, j))
    return list(dict.fromkeys((one, other) for one, other in pairs))


def groups(scenario: Scenario, named: Sequence[Sequence[str]]) -> list[list[End]]:
    """Ends of links by group of a partition; what is named in none is in the first."""
    found = [{end for name in names for end in scenario.ends(name)} for names in named]
    found[0] |= set(_ends(scenario)).difference(*found)
    return [sorted(group, key=_place) for group in found]


def _between(scenario: Scenario, parts: Sequence[Sequence[End]]) -> tuple[LinkEnds, ...]:
    """Links between ends of different groups, both directions of each."""
    joined = LINK_RULES[scenario.network.topology].joined
    pairs = ((a, b) for one, group in enumerate(parts) for other in parts[one + 1 :] for a in group for b in other)
    return tuple(chain.from_iterable(((a, b), (b, a)) for a, b in pairs if joined(a, b)))


def _ends(scenario: Scenario) -> list[End]:
    """All ends of links, in the order of `_place`."""
    devices: list[End] = [*range(len(scenario.device_names))]
    return devices if scenario.network.access_point is None else [*devices, None]


def _place(end: End) -> float:
    """Place of an end in order: the access point is last."""
    return float("inf") if end is None else end
