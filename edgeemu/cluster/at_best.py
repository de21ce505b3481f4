"""A cluster at its best: all that varies as fast as it ever is, for bounds of what is possible. Pure."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import inf

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Device
from edgeemu.cluster.links import Change, Link, LinkEnds
from edgeemu.cluster.variation import (
    MIN_SHARE,
    Constant,
    LeftByLoad,
    Product,
    Repeated,
    Scaled,
    Trace,
    Uniform,
    Variation,
    Walk,
)
from edgeemu.topologies import End


def at_best(cluster: Cluster) -> Cluster:
    """The cluster without variation, events, jitter and loss: nothing in it is slower than it ever is in `cluster`."""
    by_device: dict[int, list[Change]] = defaultdict(list)
    by_link: dict[LinkEnds, list[Change]] = defaultdict(list)
    for event in cluster.events:
        for index in event.change.devices:
            by_device[index].append(event.change)
        for ends in event.change.links:
            by_link[ends].append(event.change)
    devices = tuple(_device(device, by_device[device.index]) for device in cluster.devices)
    return Cluster(cluster.name, cluster.seed, devices, cluster.topology.with_links(partial(_link, cluster, by_link)))


def most(variation: Variation | None) -> float:
    """The largest value of a variation of values that are not negative, or a bound of it."""
    return 1.0 if variation is None else _range(variation)[1]


def least(variation: Variation | None) -> float:
    """The smallest value of a variation of values that are not negative, or a bound of it."""
    return 1.0 if variation is None else _range(variation)[0]


def _range(variation: Variation) -> tuple[float, float]:
    match variation:
        case Constant(level):
            return level, level
        case Trace(_, levels):
            return min(levels), max(levels)
        case Repeated(trace, _):
            return _range(trace)
        case Uniform(low, high) | Walk(low=low, high=high):
            return low, high
        case LeftByLoad(load):
            low, high = _range(load)
            return max(1.0 - high, MIN_SHARE), max(1.0 - low, MIN_SHARE)
        case Product(parts):
            lows, highs = zip(*map(_range, parts), strict=True)
            return _product(lows), _product(highs)
        case Scaled(base, _, factors):
            low, high = _range(base)
            return low * min(1.0, *factors), high * max(1.0, *factors)


def _product(values: tuple[float, ...]) -> float:
    found = 1.0
    for value in values:
        found *= value
    return found


def _device(device: Device, changes: list[Change]) -> Device:
    speed = most(device.availability) * max([1.0, *(c.speed for c in changes if c.speed is not None)])
    memory_bytes = round(device.memory_bytes * min(1.0, most(device.memory_availability)))
    memory_bytes = max([memory_bytes, *(c.memory_bytes for c in changes if c.memory_bytes is not None)])
    compute = device.compute
    if compute is not None and speed != 1.0:
        flops_per_s, mem_bytes_per_s = compute.flops_per_s * speed, compute.mem_bytes_per_s * speed
        compute = replace(
            compute, flops_per_s=flops_per_s, mem_bytes_per_s=mem_bytes_per_s, overhead_s=compute.overhead_s / speed
        )
    return replace(device, compute=compute, memory_bytes=memory_bytes, availability=None, memory_availability=None)


def _link(cluster: Cluster, changes: Mapping[LinkEnds, list[Change]], source: End, target: End) -> Link:
    link = cluster.link(source, target)
    bandwidth_bps, delay_s, varies = link.bandwidth_bps, link.delay_s, link.varies
    if varies is not None:
        bandwidth_bps *= inf if varies.deliveries is not None else most(varies.rate)
        delay_s = least(varies.delay_s) if varies.delay_s is not None else delay_s
        delay_s += least(varies.added_delay_s) if varies.added_delay_s is not None else 0.0
    for change in changes.get((source, target), ()):
        bandwidth_bps = max(bandwidth_bps, change.bandwidth_bps or 0.0)
        delay_s = delay_s if change.delay_s is None else min(delay_s, change.delay_s)
    return replace(
        link,
        bandwidth_bps=bandwidth_bps,
        delay_s=max(0.0, delay_s - link.jitter_s),
        jitter_s=0.0,
        loss=0.0,
        varies=None,
    )
