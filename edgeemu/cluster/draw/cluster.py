"""From a scenario to its cluster: counts, profiles, link types and random values. Knows no run.

A random value has the scenario's seed, names and the field as its key: device pi-1 and gflops, or the link between two
names and its delay. Both directions of a link have one value, unless the scenario gives them apart (`from`, `to`).
"""

import math
from itertools import accumulate

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute, Device
from edgeemu.cluster.draw.faults import draw_faults
from edgeemu.cluster.draw.links import LinkDraws
from edgeemu.cluster.draw.profile import ProfileUnderEngine
from edgeemu.cluster.draw.received import ReceivedLinks, received
from edgeemu.cluster.draw.value import draw_value
from edgeemu.cluster.draw.variation import left_by_load, throttled
from edgeemu.cluster.keyed_random import uniform
from edgeemu.cluster.links import Change, TokenEvent
from edgeemu.cluster.topology import Line, Mesh, Star, Topology
from edgeemu.cluster.variation import product
from edgeemu.errors import RequestError
from edgeemu.scenario.catalog.engines import engine_entry
from edgeemu.scenario.catalog.profile_files import profile_of
from edgeemu.scenario.devices import DeviceSpec
from edgeemu.scenario.events import EventSpec
from edgeemu.scenario.scenario import Scenario
from edgeemu.scenario.workload import LAST_ARRIVAL_S
from edgeemu.units import POWER, SIZE


def draw(scenario: Scenario) -> Cluster:
    """The cluster of a scenario. Equal scenarios give equal clusters."""
    engine = engine_entry(scenario.engine)
    profiles = {spec.profile: profile_of(spec.profile) for spec in scenario.devices}
    devices = tuple(
        _device(scenario, index, name, spec, ProfileUnderEngine(profiles[spec.profile], engine))
        for index, (name, spec) in enumerate((name, spec) for spec in scenario.devices for name in spec.device_names)
    )
    topology = topology_of(scenario, received(LinkDraws(scenario), devices))
    cluster = Cluster(scenario.name, scenario.seed, devices, topology, _token_events(scenario), draw_faults(scenario))
    for event in scenario.events:
        at_s = _first_arrival_s(scenario) if event.at_token == 0 else event.at
        if at_s is not None:
            cluster = cluster.changed(change_of(scenario, event), at_s)
    return cluster


def topology_of(scenario: Scenario, links: LinkDraws | ReceivedLinks) -> Topology:
    """The links of a scenario, which are sampled when they are first asked for."""
    n_devices = len(scenario.device_names)
    match scenario.network.topology:
        case "mesh":
            return Mesh(n_devices, links.link, links.varying(), links.arrays)
        case "line":
            return Line(n_devices, links.link, links.varying())
        case "star":
            return Star(n_devices, links.link, links.varying(), _on_shared_channel(scenario))


def arrivals_s(scenario: Scenario) -> list[float]:
    """The arrival of each sequence; empty where each arrives as soon as there is a slot for it.

    The times between arrivals of a Poisson process are exponential, with the inverse of the rate as their mean.
    Raises RequestError if they end later than `LAST_ARRIVAL_S`.
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
    instants_s = list(accumulate(gaps_s))
    if instants_s[-1] > LAST_ARRIVAL_S:
        raise RequestError(
            f"the last sequence arrives after {instants_s[-1]:.1e} s, later than {LAST_ARRIVAL_S:.0e} s: "
            "too late to resolve a token",
            field="workload.arrivals.poisson.rate",
        )
    return instants_s


def _device(scenario: Scenario, index: int, name: str, spec: DeviceSpec, implied: ProfileUnderEngine) -> Device:
    """A device: figures of the scenario, else of its profile, else of the engine."""
    seed = scenario.seed

    def value(field: str) -> float | None:
        given = getattr(spec, field)
        if given is None:
            return implied.figure(field)
        return None if given == "unlimited" else draw_value(given, seed, "device", name, field)

    memory_bytes, reserved_bytes = round(value("memory") or 0), 0
    if spec.memory_reserved is not None or spec.memory is None:  # what a scenario gives as memory is all for runs
        reserved_bytes = round(value("memory_reserved") or 0)
    if reserved_bytes >= memory_bytes:
        kept, of = (SIZE.format_human(size) for size in (reserved_bytes, memory_bytes))
        raise RequestError(f"{name}: the system keeps {kept} (memory_reserved) of {of} of memory: nothing is left")
    overhead_s = value("overhead") or 0.0
    if index != scenario.source_index:
        overhead_s += value("remote_overhead") or 0.0
    host_fraction = value("host_fraction")
    flops_per_s, mem_bytes_per_s = value("gflops"), value("mem_bandwidth")
    message_s, byte_s = value("message_overhead") or 0.0, value("byte_overhead") or 0.0
    power_w: dict[str, float | None] = {}
    for field in ("idle", "busy"):
        given = getattr(spec.power, field)
        power_w[field] = implied.power(field)
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
        compute = Compute(flops_per_s, mem_bytes_per_s, overhead_s, message_s, byte_s)
    return Device(
        index=index,
        name=name,
        profile=spec.profile,
        compute=compute,
        host_fraction=host_fraction,
        overhead_s=overhead_s,
        memory_bytes=memory_bytes - reserved_bytes,
        nic_bps=value("nic"),
        availability=product(left_by_load(spec.load, seed, "device", name, "load"), throttled(spec.throttle)),
        memory_availability=left_by_load(spec.memory_load, seed, "device", name, "memory_load"),
        idle_w=idle_w,
        busy_w=busy_w,
        memory_reserved_bytes=reserved_bytes,
        message_overhead_s=message_s,
        byte_overhead_s=byte_s,
        message_latency_s=value("message_latency") or 0.0,
    )


def _first_arrival_s(scenario: Scenario) -> float:
    """When token 0 starts: what happens then is known before the run, and to a first placement that is made then."""
    return next(iter(arrivals_s(scenario)), 0.0)


def _token_events(scenario: Scenario) -> tuple[TokenEvent, ...]:
    return tuple(
        TokenEvent(event.at_token, change_of(scenario, event))
        for event in scenario.events
        if event.at_token  # token 0 starts at an instant that is known
    )


def change_of(scenario: Scenario, event: EventSpec) -> Change:
    """The change of an event, with indexes for names. A name that stands for several devices changes all of them."""
    if event.device is not None:
        return Change(tuple(scenario.members(event.device)), event.speed, event.memory)
    assert event.link is not None  # EventSpec has made sure

    a, b = (scenario.ends(name) for name in event.link)
    pairs = dict.fromkeys(ends for i in a for j in b if i != j for ends in ((i, j), (j, i)))
    return Change(links=tuple(pairs), bandwidth_bps=event.bandwidth, delay_s=event.delay)


def _on_shared_channel(scenario: Scenario) -> frozenset[int]:
    """The devices of a star that share the wireless channel of the access point."""
    spec = scenario.network.star
    if spec is not None and not spec.shared_airtime:
        return frozenset()
    wired = {i for name in (spec.wired if spec else ()) for i in scenario.members(name)}
    return frozenset(range(len(scenario.device_names))) - wired
