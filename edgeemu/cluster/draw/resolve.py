"""A scenario with everything that is random or implied written out."""

from collections.abc import Iterator
from typing import Any

from edgeemu.cluster.devices import Device
from edgeemu.cluster.draw.cluster import arrivals_s, change_of, draw, topology_of
from edgeemu.cluster.draw.faults import groups, link_pairs, members
from edgeemu.cluster.draw.links import LinkDraws
from edgeemu.cluster.draw.variation import with_seed
from edgeemu.cluster.draw.written import written_default, written_default_energy, written_links
from edgeemu.scenario.devices import DeviceSpec
from edgeemu.scenario.events import EventSpec
from edgeemu.scenario.faults import FaultSpec
from edgeemu.scenario.load import to_yaml
from edgeemu.scenario.scenario import Scenario
from edgeemu.units import BIT_RATE, BYTE_RATE, DURATION, FLOP_RATE, POWER, SIZE

_PLAIN_KEYS = {"between", "from", "to", "bandwidth", "delay", "jitter", "loss"}  # of links whose text is exact already


def resolve(scenario: Scenario) -> Scenario:
    """The scenario with every default, count, profile, link type and random value written out.

    It gives an equal cluster, and resolving it again changes nothing. Where the default link is random, every pair is
    written out, but not in clusters of over a hundred devices (1,000 in a mesh have half a million pairs): there the
    distribution stays, and its values follow again from the names and the seed.
    """
    return Scenario.model_validate(_written(scenario))


def resolved_yaml(scenario: Scenario, policy: str) -> str:
    """Write what `to_yaml` writes of the resolved scenario under a policy, without reading back its links."""
    data = _written(scenario)
    links = None
    if scenario.network.default is not None and all(link.keys() <= _PLAIN_KEYS for link in data["network"]["links"]):
        links = [link | {"energy": {}} for link in data["network"]["links"]]
        data["network"]["links"] = []
    return to_yaml(Scenario.model_validate(data).model_copy(update={"policy": policy}), links)


def _written(scenario: Scenario) -> dict[str, Any]:
    """The resolved scenario as data."""
    cluster, links = draw(scenario), LinkDraws(scenario)
    as_given = topology_of(scenario, links)  # without what the software of devices adds
    data = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    specs = ((name, spec) for spec in scenario.devices for name in spec.device_names)
    data["devices"] = [
        _written_device(device) | _written_variations(scenario.seed, name, spec)
        for device, (name, spec) in zip(cluster.devices, specs, strict=True)
    ]
    if scenario.model.is_seeded:
        data["model"].setdefault("weights_seed", 0)
    for prompt in data["workload"]["prompts"]:
        prompt.setdefault("max_tokens", scenario.workload.max_tokens)
    if arrive_s := arrivals_s(scenario):
        data["workload"]["arrivals"] = {"trace": [DURATION.format_exact(at_s) for at_s in arrive_s]}
    data["events"] = [written for event in scenario.events for written in _written_events(scenario, event)]
    data["faults"] = [written for fault in scenario.faults for written in _written_faults(scenario, fault)]
    network = data["network"]
    if scenario.network.default is not None:
        network["default"] |= written_default(links)
        network["default"]["energy"] = network["default"].get("energy", {}) | written_default_energy(links)
    network["links"] = list(written_links(scenario, links, as_given))
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
    return data


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
    fields["remote_overhead"] = DURATION.format_exact(0.0)  # it is in the overhead
    fields["message_overhead"] = DURATION.format_exact(device.message_overhead_s)
    fields["byte_overhead"] = DURATION.format_exact(device.byte_overhead_s)
    fields["message_latency"] = DURATION.format_exact(device.message_latency_s)
    fields["memory"] = SIZE.format_exact(device.memory_bytes + device.memory_reserved_bytes)
    if device.memory_reserved_bytes:
        fields["memory_reserved"] = SIZE.format_exact(device.memory_reserved_bytes)
    fields["nic"] = "unlimited" if device.nic_bps is None else BIT_RATE.format_exact(device.nic_bps)
    power = {"idle": device.idle_w, "busy": device.busy_w}
    fields["power"] = {key: POWER.format_exact(watts) for key, watts in power.items() if watts is not None}
    return fields


def _written_variations(seed: int, name: str, spec: DeviceSpec) -> dict[str, Any]:
    """The time-varying values of a device as they were given, random processes with their seeds."""
    fields = {field: getattr(spec, field) for field in ("load", "memory_load") if getattr(spec, field) is not None}
    written = {field: with_seed(given, seed, "device", name, field) for field, given in fields.items()}
    if spec.throttle is not None:
        written["throttle"] = spec.throttle.model_dump(mode="json")
    return written


def _written_events(scenario: Scenario, event: EventSpec) -> Iterator[dict[str, Any]]:
    """An event for each device, or for each link, that it changes."""
    written = event.model_dump(mode="json", exclude_none=True)
    change, names = change_of(scenario, event), scenario.device_names
    for device in change.devices:
        yield written | {"device": names[device]}
    for source, target in change.links:
        if (target, source) not in change.links or (source is not None and (target is None or source < target)):
            yield written | {"link": [scenario.end_name(source), scenario.end_name(target)]}


def _written_faults(scenario: Scenario, fault: FaultSpec) -> Iterator[dict[str, Any]]:
    """A fault with its devices or the groups of its partition by name, or one for each link that it names."""
    written = fault.model_dump(mode="json", by_alias=True, exclude_none=True)
    if fault.device is not None:
        yield written | {"device": [scenario.device_names[device] for device in members(scenario, fault.device)]}
    elif fault.partition is not None:
        parts = groups(scenario, fault.partition)
        yield written | {"partition": [[scenario.end_name(end) for end in part] for part in parts]}
    elif fault.link is not None:
        for pair in link_pairs(scenario, fault.link):
            yield written | {"link": [scenario.end_name(end) for end in pair]}
    else:
        yield written
