"""Contradictions between sections of a scenario, each with the position of its field. Samples nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeemu.errors import did_you_mean
from edgeemu.scenario.devices import MAX_DEVICES
from edgeemu.scenario.document import Position
from edgeemu.scenario.options import PrecisionSpec
from edgeemu.topologies import LINK_RULES

if TYPE_CHECKING:
    from edgeemu.scenario.events import EventSpec
    from edgeemu.scenario.faults import FaultSpec
    from edgeemu.scenario.network import LinkOverride
    from edgeemu.scenario.placement import PlacementSpec
    from edgeemu.scenario.scenario import Scenario

Contradiction = tuple[Position, str]


def contradictions(scenario: Scenario) -> Iterator[Contradiction]:
    """Contradictions of a scenario whose sections are right by themselves."""
    n_devices = sum(device.count for device in scenario.devices)
    if n_devices > MAX_DEVICES:
        yield ("devices",), f"{n_devices} devices; at most {MAX_DEVICES} are supported"
        return
    named = Counter(scenario.device_names) + Counter(spec.name for spec in scenario.devices if spec.count > 1)
    for n, device in enumerate(scenario.devices):
        twice = next((name for name in [device.name, *device.device_names] if named[name] > 1), None)
        if twice is not None:
            yield ("devices", n, "name"), f'there are two devices named "{twice}"'
    if scenario.network.default is None and n_devices > 1:
        yield ("network", "default"), "is missing (the link between any two devices)"
    if scenario.network.access_point in named:
        position = ("network", "star", "access_point")
        yield position, f'"{scenario.network.access_point}" is a device too; give the access point a name'
    if scenario.source is not None and (problem := not_one(scenario, scenario.source)):
        yield ("source",), problem
    for n, link in enumerate(scenario.network.links):
        yield from _of_link(scenario, ("network", "links", n), link)
    yield from _of_wired_devices(scenario)
    decisions = scenario.decisions
    if decisions.on is not None and (problem := not_one(scenario, decisions.on)):
        yield ("decisions", "on"), problem
    if decisions.on is not None and decisions.time != "measured":
        yield ("decisions", "on"), "scales what is measured: give time: measured, or leave it out"
    if decisions.threshold and scenario.knowledge == "oracle":
        yield ("decisions", "threshold"), "is for what is measured; an oracle is asked always (knowledge: measured)"
    for n, event in enumerate(scenario.events):
        yield from _of_event(scenario, ("events", n), event)
    precision = scenario.precision
    if precision.weights == "file" and (scenario.model.is_seeded or scenario.model.directory is not None):
        yield ("precision", "weights"), "file is for a model from a GGUF file (model: {gguf: FILE})"
    if precision.hold == "expanded" and precision.weights == "f32":
        yield ("precision", "hold"), "is for weights in another format; f32 has nothing to expand"
    if scenario.cost.formulas == "literal" and precision != PrecisionSpec():
        yield ("precision",), "is for physical costs; literal ones have value_bytes"
    if scenario.placement is not None:
        yield from _of_placement(scenario, scenario.placement)


def no_device(scenario: Scenario, name: str) -> str:
    """Message about a name that no device has."""
    return f'there is no device "{name}"{did_you_mean(name, scenario.names)}'


def not_one(scenario: Scenario, name: str) -> str:
    """Message about a name that is not that of one device; empty if it is."""
    found = scenario.members(name)
    if not found:
        return no_device(scenario, name)
    first, last = scenario.device_names[found[0]], scenario.device_names[found[-1]]
    return f'"{name}" is {len(found)} devices; name one, {first} to {last}' if len(found) > 1 else ""


def _of_placement(scenario: Scenario, placement: PlacementSpec) -> Iterator[Contradiction]:
    for position, name in placement.devices():
        if problem := not_one(scenario, name):
            yield ("placement", *position), problem


def _of_link(scenario: Scenario, position: Position, link: LinkOverride) -> Iterator[Contradiction]:
    keys: tuple[Position, Position] = (("between", 0), ("between", 1)) if link.between else (("from",), ("to",))
    yield from _of_ends(scenario, position, keys, link.ends)


def _of_event(scenario: Scenario, position: Position, event: EventSpec) -> Iterator[Contradiction]:
    if event.device is not None and not scenario.members(event.device):
        yield (*position, "device"), no_device(scenario, event.device)
    yield from of_when_and_link(scenario, position, event)


def of_when_and_link(scenario: Scenario, position: Position, given: EventSpec | FaultSpec) -> Iterator[Contradiction]:
    """Contradictions of what events and faults have in common: a token, and a link."""
    tokens = scenario.workload.prompts[0].max_tokens or scenario.workload.max_tokens
    if given.at_token is not None and given.at_token >= tokens:
        yield (
            (*position, "at_token"),
            f"{given.at_token} never comes: the first sequence has {tokens} tokens, 0 to {tokens - 1}",
        )
    if given.link is not None:
        yield from _of_ends(scenario, position, (("link", 0), ("link", 1)), (given.link[0], given.link[1]))


def _of_ends(
    scenario: Scenario, position: Position, keys: tuple[Position, Position], ends: tuple[str, str]
) -> Iterator[Contradiction]:
    point = scenario.network.access_point
    for key, end in zip(keys, ends, strict=True):
        if not scenario.members(end) and end != point:
            yield (*position, *key), no_device(scenario, end)
            return
    (a, b), rule = ends, LINK_RULES[scenario.network.topology]
    if not any(rule.joined(i, j) for i in scenario.ends(a) for j in scenario.ends(b)):
        yield position, rule.refusal.format(a=a, b=b, access_point=point)


def _of_wired_devices(scenario: Scenario) -> Iterator[Contradiction]:
    star = scenario.network.star
    for n, name in enumerate(star.wired if star else ()):
        position: Position = ("network", "star", "wired", n)
        if not scenario.members(name):
            yield position, no_device(scenario, name)
            return
        with_link = {i for link in scenario.network.links for end in link.ends for i in scenario.members(end)}
        without = [i for i in scenario.members(name) if i not in with_link]
        if without and star:
            ends = f"{scenario.device_names[without[0]]}, {star.access_point}"
            yield position, f"a wired device needs a link: add links: [{{between: [{ends}], type: ethernet-1g}}]"
