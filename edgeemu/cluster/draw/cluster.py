"""From what the user wrote to a cluster: counts, profiles, link types and random draws. Knows no run.

Draws are keyed by the scenario's seed, the names and the field: `devices.pi-1.gflops`, the link between two names. A
link's draw is one for both directions, unless the scenario gives them apart (`from`, `to`).
"""

import math
from itertools import accumulate

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute, Device
from edgeemu.cluster.draw.links import LinkDraws
from edgeemu.cluster.draw.value import draw_value, profile_value
from edgeemu.cluster.draw.variation import load_left, throttled
from edgeemu.cluster.keyed_random import uniform
from edgeemu.cluster.links import Change, End, TokenEvent, Ways
from edgeemu.cluster.topology import LineWays, MeshWays, StarWays, line, mesh, star
from edgeemu.cluster.variation import product
from edgeemu.errors import RequestError
from edgeemu.scenario.catalog import device_profile
from edgeemu.scenario.devices import DeviceSpec
from edgeemu.scenario.events import EventSpec
from edgeemu.scenario.scenario import Scenario
from edgeemu.units import POWER


def draw(scenario: Scenario) -> Cluster:
    """The cluster that a scenario describes. The same scenario always gives the same cluster."""
    devices = tuple(
        _device(scenario.seed, index, name, spec)
        for index, (name, spec) in enumerate((name, spec) for spec in scenario.devices for name in spec.device_names)
    )
    n_devices = len(devices)
    links = LinkDraws(scenario)
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
            cluster = cluster.changed(change_of(scenario, event), event.at)
    return cluster


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
            return profile_value(profile, field)
        return None if given == "unlimited" else draw_value(given, seed, "device", name, field)

    overhead_s = value("overhead") or 0.0
    host_fraction = value("host_fraction")
    flops_per_s, mem_bytes_per_s = value("gflops"), value("mem_bandwidth")
    power_w: dict[str, float | None] = {}
    for field in ("idle", "busy"):
        given, sourced = getattr(spec.power, field), getattr(profile.power, field) if profile else None
        power_w[field] = sourced.value if sourced else None
        if given is not None:
            power_w[field] = draw_value(given, seed, "device", name, "power", field)
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
        TokenEvent(event.at_token, change_of(scenario, event))
        for event in scenario.events
        if event.at_token is not None
    )


def change_of(scenario: Scenario, event: EventSpec) -> Change:
    """What an event does, in indexes. Names that stand for several devices change all of them."""
    if event.device is not None:
        return Change(tuple(scenario.members(event.device)), event.speed, event.memory)
    assert event.link is not None  # EventSpec has made sure

    def ends(name: str) -> list[End]:
        return [None] if name == scenario.network.access_point else list(scenario.members(name))

    a, b = (ends(name) for name in event.link)
    pairs = dict.fromkeys(way for i in a for j in b if i != j for way in ((i, j), (j, i)))
    return Change(links=tuple(pairs), bandwidth_bps=event.bandwidth, delay_s=event.delay)


def _on_the_air(scenario: Scenario) -> frozenset[int]:
    """The devices of a star that share the access point's air."""
    spec = scenario.network.star
    if spec is not None and not spec.shared_airtime:
        return frozenset()
    wired = {i for name in (spec.wired if spec else ()) for i in scenario.members(name)}
    return frozenset(range(len(scenario.device_names))) - wired
