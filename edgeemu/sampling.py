"""From what the user wrote to a cluster: counts, profiles, link types and random draws. Knows no run.

Draws are keyed by the scenario's seed, the names and the field: `devices.pi-1.gflops`, the link between two names. A
link's draw is one for both directions, unless the scenario gives them apart (`from`, `to`).
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np

from edgeemu.catalog import DeviceProfile, device_profile, link_type
from edgeemu.cluster import Change, Cluster, Compute, Device, End, Link, TokenEvent, Ways, line, mesh, star
from edgeemu.courses import course, factor_course, is_drawn, load_left, rate_course, seeded, throttled
from edgeemu.draws import (
    FloatArray,
    draw_lognormal,
    draw_lognormals,
    draw_uniform,
    draw_uniforms,
    pair_uniforms,
    uniform,
    way_uniforms,
)
from edgeemu.errors import RequestError
from edgeemu.scenario import Scenario
from edgeemu.scenario_dynamics import EventSpec
from edgeemu.scenario_models import DeviceSpec, Distribution, LinkOverride, LinkSpec
from edgeemu.scenario_varying import LinkVariationSpec
from edgeemu.units import BIT_RATE, BYTE_RATE, DURATION, ENERGY_PER_BIT, FLOP_RATE, POWER, SIZE
from edgeemu.variation import LinkVariation, product
from edgeemu.ways import Arrays, IntArray, LineWays, MeshWays, StarWays

_DRAWN_FIELDS = ("bandwidth", "delay", "jitter", "loss", "reorder", "duplicate")
_ENERGY_FIELDS = ("energy.send", "energy.receive")  # drawn too, where they are there
_ARRAY_FIELDS = ("bandwidth", "delay")
_VARYING_FIELDS = ("bandwidth_trace", "variation")
_PLAIN_FIELDS = (*_DRAWN_FIELDS, *_VARYING_FIELDS)


def draw(scenario: Scenario) -> Cluster:
    """The cluster that a scenario describes. The same scenario always gives the same cluster."""
    devices = tuple(
        _device(scenario.seed, index, name, spec)
        for index, (name, spec) in enumerate((name, spec) for spec in scenario.devices for name in spec.device_names)
    )
    n_devices = len(devices)
    links = _Links(scenario)
    nic_bps = [device.nic_bps for device in devices]
    ways: Ways
    match scenario.network.topology:
        case "mesh":
            wiring = mesh(n_devices, links.link)
            ways = MeshWays(links.arrays, nic_bps)
        case "line":
            wiring = line(n_devices, links.link)
            right = [links.link(device, device + 1) for device in range(n_devices - 1)]
            left = [links.link(device + 1, device) for device in range(n_devices - 1)]
            ways = LineWays(right, left, nic_bps)
        case "star":
            up = [links.link(device, n_devices) for device in range(n_devices)]
            down = [links.link(n_devices, device) for device in range(n_devices)]
            on_the_air = _on_the_air(scenario)
            wiring = star(n_devices, up.__getitem__, down.__getitem__, on_the_air)
            ways = StarWays(up, down, on_the_air, nic_bps)
    events = _token_events(scenario)
    cluster = Cluster(scenario.name, scenario.seed, devices, *wiring, events, varying=links.varying(), ways=ways)
    for event in scenario.events:
        if event.at is not None:
            cluster = cluster.changed(_change(scenario, event), event.at)
    return cluster


def resolve(scenario: Scenario) -> Scenario:
    """The scenario with every default, count, profile, link type and draw written out.

    It draws to the same cluster, and resolving it again changes nothing. Where the default link is drawn for each
    pair, every pair is written out, but not in clusters of over a hundred devices (1,000 in a mesh have half a
    million pairs): there the distribution stays, and is drawn again for the same names from the same seed.
    """
    links = _Links(scenario)
    data = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    specs = ((name, spec) for spec in scenario.devices for name in spec.device_names)
    data["devices"] = [
        _written_device(device) | _written_courses(scenario.seed, name, spec)
        for device, (name, spec) in zip(draw(scenario).devices, specs, strict=True)
    ]
    if scenario.model.is_seeded:
        data["model"].setdefault("weights_seed", 0)
    for prompt in data["workload"]["prompts"]:
        prompt.setdefault("max_tokens", scenario.workload.max_tokens)
    if come_s := arrivals_s(scenario):
        data["workload"]["arrivals"] = {"trace": [DURATION.format_exact(at_s) for at_s in come_s]}
    data["events"] = [written for event in scenario.events for written in _written_events(scenario, event)]
    network = data["network"]
    if scenario.network.default is not None:
        network["default"] |= _written_fields({field: links.default[field] for field in _DRAWN_FIELDS})
        energy = {field: links.default[field] for field in _ENERGY_FIELDS if field in links.default}
        network["default"]["energy"] = network["default"].get("energy", {}) | _written_energy(energy)
    network["links"] = [entry for pair in links.pairs() for entry in links.written(*pair)]
    star_spec = scenario.network.star
    if scenario.network.access_point is not None:
        network["star"] = {
            "access_point": scenario.network.access_point,
            "shared_airtime": star_spec.shared_airtime if star_spec else True,
            "wired": [
                scenario.device_names[i]
                for name in (star_spec.wired if star_spec else ())
                for i in scenario.members(name)
            ],
        }
    return Scenario.model_validate(data)


def arrivals_s(scenario: Scenario) -> list[float]:
    """When each sequence comes; empty where each comes as soon as there is a slot for it.

    Of a Poisson process the times between arrivals are exponential, with the rate's inverse as their mean.
    """
    arrivals = scenario.workload.arrivals
    if arrivals == "closed":
        return []
    if arrivals.trace is not None:
        return list(arrivals.trace)
    assert arrivals.poisson is not None
    rate = arrivals.poisson.rate
    count = sum(prompt.repeat for prompt in scenario.workload.prompts)
    gaps_s = (-math.log1p(-uniform(scenario.seed, "arrival", str(n))) / rate for n in range(count))
    return list(accumulate(gaps_s))


def _device(seed: int, index: int, name: str, spec: DeviceSpec) -> Device:
    profile = device_profile(spec.profile) if spec.profile is not None else None

    def value(field: str) -> float | None:
        given = getattr(spec, field)
        if given is None:
            return _profile_value(profile, field)
        return None if given == "unlimited" else _drawn(given, seed, "device", name, field)

    overhead_s = value("overhead") or 0.0
    host_fraction = value("host_fraction")
    flops_per_s, mem_bytes_per_s = value("gflops"), value("mem_bandwidth")
    power_w: dict[str, float | None] = {}
    for field in ("idle", "busy"):
        given, sourced = getattr(spec.power, field), getattr(profile.power, field) if profile else None
        power_w[field] = sourced.value if sourced else None
        if given is not None:
            power_w[field] = _drawn(given, seed, "device", name, "power", field)
    idle_w, busy_w = power_w["idle"], power_w["busy"]
    if idle_w is not None and busy_w is not None and idle_w > busy_w:
        idle, busy = (POWER.format_human(watts) for watts in (idle_w, busy_w))
        raise RequestError(f"{name} draws {idle} when it is idle, and {busy} when it is busy; give power both, rising")
    compute = None
    if host_fraction is None:
        assert flops_per_s is not None  # DeviceSpec has made sure of both
        assert mem_bytes_per_s is not None
        compute = Compute(flops_per_s, mem_bytes_per_s, overhead_s)
    return Device(
        index=index,
        name=name,
        profile=spec.profile,
        compute=compute,
        host_fraction=host_fraction,
        overhead_s=overhead_s,
        memory_bytes=round(value("memory") or 0),
        nic_bps=value("nic"),
        availability=product(load_left(spec.load, seed, "device", name, "load"), throttled(spec.throttle)),
        memory_availability=load_left(spec.memory_load, seed, "device", name, "memory_load"),
        idle_w=idle_w,
        busy_w=busy_w,
    )


def _token_events(scenario: Scenario) -> tuple[TokenEvent, ...]:
    return tuple(
        TokenEvent(event.at_token, _change(scenario, event)) for event in scenario.events if event.at_token is not None
    )


def _change(scenario: Scenario, event: EventSpec) -> Change:
    """What an event does, in indexes. Names that stand for several devices change all of them."""
    if event.device is not None:
        return Change(tuple(scenario.members(event.device)), event.speed, event.memory)
    assert event.link is not None  # EventSpec has made sure

    def ends(name: str) -> list[End]:
        return [None] if name == scenario.network.access_point else list(scenario.members(name))

    a, b = (ends(name) for name in event.link)
    pairs = dict.fromkeys(way for i in a for j in b if i != j for way in ((i, j), (j, i)))
    return Change(links=tuple(pairs), bandwidth_bps=event.bandwidth, delay_s=event.delay)


def _profile_value(profile: DeviceProfile | None, field: str) -> float | None:
    sourced = getattr(profile, field, None)
    return None if sourced is None else sourced.value


def _drawn(given: float | Distribution[float], seed: int, *names: str) -> float:
    """A value as given, or drawn for these names."""
    if not isinstance(given, Distribution):
        return given
    u = uniform(seed, *names)
    if given.lognormal is not None:
        return draw_lognormal(u, given.lognormal.low, given.lognormal.high)
    assert given.uniform is not None  # Distribution has made sure
    return draw_uniform(u, given.uniform.low, given.uniform.high)


def _on_the_air(scenario: Scenario) -> frozenset[int]:
    """The devices of a star that share the access point's air."""
    spec = scenario.network.star
    if spec is not None and not spec.shared_airtime:
        return frozenset()
    wired = {i for name in (spec.wired if spec else ()) for i in scenario.members(name)}
    return frozenset(range(len(scenario.device_names))) - wired


WRITTEN_PAIRWISE = 100  # devices; with more, links that are drawn are left to be drawn again


class _Links:
    """The direct link from one device to another, looked up when asked for. In a star, index n is the access point."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._point = scenario.network.access_point
        self._names = [*scenario.device_names, *([self._point] if self._point else [])]
        spec = scenario.network.default
        self.default: dict[str, Any] = dict.fromkeys(_DRAWN_FIELDS[2:], 0.0) | (_given(spec) if spec else {})
        self._overrides = scenario.network.links
        self._for_pair: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._for_groups: list[tuple[range, range, int]] = []
        for n, override in enumerate(self._overrides):
            for a, b in self._directions(override):
                if len(a) == len(b) == 1:
                    self._for_pair[a[0], b[0]].append(n)
                else:
                    self._for_groups.append((a, b, n))

    def link(self, a: int, b: int) -> Link:
        """What the default and, field by field, the overrides in their order say of the link from a to b."""
        values, seed = self._values(a, b), self._scenario.seed
        drawn = {field: _drawn(values[field][0], seed, *values[field][1], field) for field in _DRAWN_FIELDS}
        priced = (values.get(field, (None, ())) for field in _ENERGY_FIELDS)
        send, receive = (
            None if given is None else _drawn(given, seed, *key, field)
            for (given, key), field in zip(priced, _ENERGY_FIELDS, strict=True)
        )
        bandwidth_bps, delay_s, jitter_s, loss, *packets = (drawn[field] for field in _DRAWN_FIELDS)
        link = Link(bandwidth_bps, delay_s, jitter_s, loss, None, send, receive, *packets)
        if values.keys().isdisjoint(_VARYING_FIELDS):
            return link
        rates, _ = values.get("bandwidth_trace", (None, ()))
        varied, key = values.get("variation", (LinkVariationSpec(), ()))
        rate = product(rate_course(rates, link.bandwidth_bps), factor_course(varied.bandwidth, seed, *key, "bandwidth"))
        added_delay_s = course(varied.delay, seed, *key, "delay")
        varies = None if rate is None and added_delay_s is None else LinkVariation(rate, None, added_delay_s)
        return replace(link, varies=varies)

    def _values(self, a: int, b: int) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """Each field as it was given, and the names for which it is drawn."""
        first, second = sorted((self._names[a], self._names[b]))
        values: dict[str, tuple[Any, tuple[str, ...]]]
        values = {field: (given, ("link", first, second)) for field, given in self.default.items()}
        for n in self._applying(a, b):
            both_ways = self._overrides[n].between is not None
            key = ("link", first, second) if both_ways else ("link", self._names[a], "to", self._names[b])
            values |= {field: (given, key) for field, given in _given(self._overrides[n]).items()}
        return values

    def arrays(self, sources: IntArray, targets: IntArray) -> Arrays:
        """Bandwidths and delays of `link` for all sources and targets, [m, k] each; nothing of a device and itself."""
        made = {field: self._drawn(self.default.get(field), sources, targets, field) for field in _ARRAY_FIELDS}
        row_of, column_of = ({int(i): n for n, i in enumerate(indexes)} for indexes in (sources, targets))
        for override in self._overrides:
            given = _given(override)
            for a, b in self._directions(override):
                rows = [row_of[i] for i in a if i in row_of]
                columns = [column_of[i] for i in b if i in column_of]
                for field in _ARRAY_FIELDS if rows and columns else ():
                    if field in given:
                        both_ways = override.between is not None
                        drawn = self._drawn(given[field], sources[rows], targets[columns], field, both_ways=both_ways)
                        made[field][np.ix_(rows, columns)] = drawn
        return made["bandwidth"], made["delay"]

    def _drawn(
        self, given: Any, sources: IntArray, targets: IntArray, field: str, *, both_ways: bool = True
    ) -> FloatArray:
        """One field of all links, with the keys of `_values`: [m, k]. None, where there is no default, is nowhere."""
        if not isinstance(given, Distribution):
            return np.full((len(sources), len(targets)), np.inf if given is None else given)
        a, b = ([self._names[i] for i in indexes] for indexes in (sources, targets))
        u = (pair_uniforms if both_ways else way_uniforms)(self._scenario.seed, "link", a, b, field)
        if given.lognormal is not None:
            return draw_lognormals(u, given.lognormal.low, given.lognormal.high)
        assert given.uniform is not None  # Distribution has made sure
        return draw_uniforms(u, given.uniform.low, given.uniform.high)

    def varying(self) -> frozenset[tuple[End, End]] | None:
        """The links that change over time by themselves; None: all of them."""
        if any(field in self.default for field in _VARYING_FIELDS):
            return None
        ends: list[End] = [*range(len(self._scenario.device_names)), *([None] if self._point else [])]
        return frozenset(
            (ends[i], ends[j])
            for override in self._overrides
            if any(getattr(override, field) is not None for field in _VARYING_FIELDS)
            for a, b in self._directions(override)
            for i in a
            for j in b
        )

    def pairs(self) -> list[tuple[int, int]]:
        """The pairs to be written out: those with overrides; all, where the default is drawn for each of a few."""
        everyone = range(len(self._names))
        drawn = any(isinstance(given, Distribution) or is_drawn(given) for given in self.default.values())
        if drawn and len(everyone) <= WRITTEN_PAIRWISE:
            return [(a, b) for a in everyone for b in everyone if a < b and self._joined(a, b)]
        found: set[tuple[int, int]] = set()
        for override in self._overrides:
            a, b = (self._members(end) for end in override.ends)
            found |= {(min(i, j), max(i, j)) for i in a for j in b if self._joined(i, j)}
        return sorted(found)

    def written(self, a: int, b: int) -> Iterator[dict[str, Any]]:
        """The entries of `network.links` that say all of a pair."""
        there, back = self._written(a, b), self._written(b, a)
        if there == back:
            yield {"between": [self._names[a], self._names[b]], **there}
        else:
            yield {"from": self._names[a], "to": self._names[b], **there}
            yield {"from": self._names[b], "to": self._names[a], **back}

    def _written(self, a: int, b: int) -> dict[str, Any]:
        """All fields of the link from a to b, every draw made."""
        link, values = self.link(a, b), self._values(a, b)
        fields: dict[str, Any]
        fields = {"bandwidth": link.bandwidth_bps, "delay": link.delay_s, "jitter": link.jitter_s, "loss": link.loss}
        fields |= {field: share for field in ("reorder", "duplicate") if (share := getattr(link, field))}
        for field in ("bandwidth_trace", "variation"):
            if field in values:
                given, key = values[field]
                fields[field] = seeded(given, self._scenario.seed, *key)
        energy = _written_energy(dict(zip(_ENERGY_FIELDS, (link.send_j_per_bit, link.receive_j_per_bit), strict=True)))
        unpriced = {"type": values["unpriced"][0]} if "unpriced" in values and len(energy) < len(_ENERGY_FIELDS) else {}
        return unpriced | _written_fields(fields) | ({"energy": energy} if energy else {})

    def _applying(self, a: int, b: int) -> list[int]:
        single = self._for_pair.get((a, b), [])
        in_groups = {n for left, right, n in self._for_groups if a in left and b in right}
        return sorted({*single, *in_groups}) if in_groups else single

    def _directions(self, override: LinkOverride) -> list[tuple[range, range]]:
        a, b = (self._members(end) for end in override.ends)
        return [(a, b), (b, a)] if override.between is not None else [(a, b)]

    def _members(self, name: str) -> range:
        point = len(self._names) - 1
        return range(point, point + 1) if name == self._point else self._scenario.members(name)

    def _joined(self, a: int, b: int) -> bool:
        if self._point is not None:
            return max(a, b) == len(self._names) - 1 and a != b
        return self._scenario.joined(a, b)


def _given(spec: LinkSpec) -> dict[str, Any]:
    """The fields that a link spells out, after those of its type."""
    fields: dict[str, Any] = {}
    if spec.type is not None:
        kind = link_type(spec.type)
        fields = {"bandwidth": kind.bandwidth.value, "delay": kind.delay.value}
        fields["jitter"] = kind.jitter.value if kind.jitter else 0.0
        fields["loss"] = kind.loss.value if kind.loss else 0.0
        if kind.energy is not None:
            fields |= {"energy.send": kind.energy.send.value, "energy.receive": kind.energy.receive.value}
        else:  # and not what another type or the default says: that is of another radio
            fields |= {"unpriced": spec.type, **dict.fromkeys(_ENERGY_FIELDS)}
    fields |= {field: given for field in _PLAIN_FIELDS if (given := getattr(spec, field)) is not None}
    energy = {"energy.send": spec.energy.send, "energy.receive": spec.energy.receive}
    return fields | {field: given for field, given in energy.items() if given is not None}


def _written_device(device: Device) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": device.name}
    if device.profile is not None:
        fields["profile"] = device.profile
    if device.compute is not None:
        fields["gflops"] = FLOP_RATE.format_exact(device.compute.flops_per_s)
        fields["mem_bandwidth"] = BYTE_RATE.format_exact(device.compute.mem_bytes_per_s)
    else:
        fields["host_fraction"] = device.host_fraction
    fields["overhead"] = DURATION.format_exact(device.overhead_s)
    fields["memory"] = SIZE.format_exact(device.memory_bytes)
    fields["nic"] = "unlimited" if device.nic_bps is None else BIT_RATE.format_exact(device.nic_bps)
    power = {"idle": device.idle_w, "busy": device.busy_w}
    fields["power"] = {key: POWER.format_exact(watts) for key, watts in power.items() if watts is not None}
    return fields


def _written_courses(seed: int, name: str, spec: DeviceSpec) -> dict[str, Any]:
    """What changes over time, as it was given; random courses with the seeds that they were given or drew."""
    fields = {field: getattr(spec, field) for field in ("load", "memory_load") if getattr(spec, field) is not None}
    written = {field: seeded(given, seed, "device", name, field) for field, given in fields.items()}
    if spec.throttle is not None:
        written["throttle"] = spec.throttle.model_dump(mode="json")
    return written


def _written_events(scenario: Scenario, event: EventSpec) -> Iterator[dict[str, Any]]:
    """An event for each device, or for each link, that it is of."""
    written = event.model_dump(mode="json", exclude_none=True)
    change, names = _change(scenario, event), scenario.device_names
    for device in change.devices:
        yield written | {"device": names[device]}
    for source, target in change.links:
        if (target, source) not in change.links or (source is not None and (target is None or source < target)):
            ends = [scenario.network.access_point if end is None else names[end] for end in (source, target)]
            yield written | {"link": ends}


def _written_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Exact texts, but for distributions, which stay as they were written."""
    formats = {"bandwidth": BIT_RATE, "delay": DURATION, "jitter": DURATION}
    return {
        field: formats[field].format_exact(value) if field in formats else value
        for field, value in fields.items()
        if not isinstance(value, Distribution)
    }


def _written_energy(energy: Mapping[str, Any]) -> dict[str, str]:
    """`energy.send` and `energy.receive` as keys of `energy`, where they are known; not distributions."""
    return {
        field.removeprefix("energy."): ENERGY_PER_BIT.format_exact(value)
        for field, value in energy.items()
        if value is not None and not isinstance(value, Distribution)
    }
