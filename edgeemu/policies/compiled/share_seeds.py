"""Placements that a search looks at near the one in force, in one batch: `search.share_search.Vicinity`, in its order.

Of models of few layers: each is a run. Also the fastest devices, of which placements are made.
"""

from typing import NamedTuple

import numpy as np

from edgeemu.policies.compiled.share_needs import missing_bytes
from edgeemu.policies.compiled.share_neighbours import (
    WITH_HEADS,
    Base,
    copy_placement,
    elsewhere,
    write_base,
    write_normally,
)
from edgeemu.policies.compiled.tables import Batch, MemoryTables, WayTables
from edgeemu_kernels.arrays import Floats, Ints

FIRST_FLOPS, GROUP_FLOPS, FIRST_BYTES, GROUP_BYTES = range(4)  # among the works of a layer
PROJ_FLOPS, FFN_FLOPS = 4, 6  # each before its bytes


class AllDevices(NamedTuple):
    """All devices as they are now."""

    n: int
    flops_per_s: Floats  # [n]
    mem_bytes_per_s: Floats  # [n]
    overhead_s: Floats  # [n]
    memory_bytes: Ints  # [n]


class LayerWorks(NamedTuple):
    """Works of a layer, which are affine in what is cached: with `begin` positions, and what each more adds.

    Operations and bytes of heads but for their groups, of a group, of the projection, of the feed-forward block.
    """

    n_groups: int
    begin: int
    works: Floats  # [8]
    more: Floats  # [8]


class Seeds(NamedTuple):
    """Terms of the placements that are looked at, and places to write in."""

    devices: Ints  # [n] chosen ones
    weights: Floats  # [n]
    keys: Floats  # [n]


def fastest(v: AllDevices, p: LayerWorks, past: int, layers_s: Floats, size: int, chosen: Ints) -> None:
    """Find the devices on which a complete layer takes least, the first where they are alike: [size]."""
    for a in range(v.n):
        computed_s = _work(p, past, FIRST_FLOPS) / v.flops_per_s[a] + v.overhead_s[a]
        computed_s = computed_s + p.n_groups * (_work(p, past, GROUP_FLOPS) / v.flops_per_s[a])
        read_s = _work(p, past, FIRST_BYTES) / v.mem_bytes_per_s[a] + v.overhead_s[a]
        read_s = read_s + p.n_groups * (_work(p, past, GROUP_BYTES) / v.mem_bytes_per_s[a])
        layers_s[a] = max(computed_s, read_s) + _block_s(v, p, past, PROJ_FLOPS, a)
        layers_s[a] = layers_s[a] + _block_s(v, p, past, FFN_FLOPS, a)
    for which in range(size):
        best = 0
        for a in range(v.n):
            best = a if layers_s[a] < layers_s[best] else best
        chosen[which] = best
        layers_s[best] = np.inf


def _work(p: LayerWorks, past: int, which: int) -> float:
    return p.works[which] + (past - p.begin) * p.more[which]


def _block_s(v: AllDevices, p: LayerWorks, past: int, which: int, a: int) -> float:
    return _time_s(v, a, _work(p, past, which), _work(p, past, which + 1))


def _time_s(v: AllDevices, a: int, flops: float, bytes_read: float) -> float:
    """Time of some work on a device."""
    return max(flops / v.flops_per_s[a], bytes_read / v.mem_bytes_per_s[a]) + v.overhead_s[a]


def write_others(
    m: MemoryTables,
    y: WayTables,
    v: AllDevices,
    p: LayerWorks,
    past: int,
    s: Base,
    b: Batch,
    o: Batch,
    g: Seeds,
    count: int,
) -> int:
    """Write the placements near the one in force that are no small changes of it; bytes that itself lacks.

    `count`: where they begin. `o`: those that the run has left.
    """
    begin_search(y, s, b)
    count = elsewhere(s, b, count)
    for device in range(s.n):
        _write_alone(s, b, count, device)
        count += 1
    if s.divide:
        flops = _work(p, past, FIRST_FLOPS) + p.n_groups * _work(p, past, GROUP_FLOPS)
        bytes_read = _work(p, past, FIRST_BYTES) + p.n_groups * _work(p, past, GROUP_BYTES)
        for a in range(s.n):
            device = g.devices[a]
            layer_s = _time_s(v, device, flops, bytes_read) + _block_s(v, p, past, PROJ_FLOPS, device)
            g.weights[a] = 1.0 / (layer_s + _block_s(v, p, past, FFN_FLOPS, device))
        _write_in_proportion(s, b, count, g)
        for a in range(s.n):
            g.weights[a] = y.capacity[a] + 1.0
        _write_in_proportion(s, b, count + 1, g)
        count += 2
    for which in range(o.k):
        copy_placement(o, which, b, count)
        count += 1
    write_base(s, b, count)
    return missing_bytes(m, y, b, count)


def begin_search(y: WayTables, s: Base, b: Batch) -> None:
    """Begin with the placement in force, of which each layer is a run."""
    s.ends[0] = y.old_embed
    s.ends[1] = y.old_lm_head
    for run in range(s.n_runs):
        s.proj[run] = y.old_proj[run]
        b.lengths[run] = 1
    for at in range(s.n_runs * s.n):
        s.heads[at] = y.old_heads[at]
        s.units[at] = y.old_units[at]


def _write_alone(s: Base, b: Batch, count: int, device: int) -> None:
    """Write everything on one device."""
    b.embed[count] = device
    b.lm_head[count] = device
    for run in range(s.n_runs):
        here = count * s.n_runs + run
        b.proj[here] = device
        for a in range(s.n):
            b.heads[here * s.n + a] = s.n_groups if a == device else 0
            b.units[here * s.n + a] = s.n_units if a == device else 0


def _write_in_proportion(s: Base, b: Batch, count: int, g: Seeds) -> None:
    """Write a placement of which all layers are divided alike, by weights of devices."""
    most = 0
    for a in range(s.n):
        most = a if g.weights[a] > g.weights[most] else most
    b.embed[count] = most
    b.lm_head[count] = most
    for run in range(s.n_runs):
        here = count * s.n_runs + run
        b.proj[here] = WITH_HEADS
        _share_out(g, b.heads[here * s.n :], s.n, s.n_groups)
        _share_out(g, b.units[here * s.n :], s.n, s.n_units)
    write_normally(s, b, count)


def _share_out(g: Seeds, parts: Ints, n: int, total: int) -> None:
    """Divide a number by weights, by the largest remainders: `search.apportion`, where everyone has room for all."""
    weight, rest = 0.0, total
    for a in range(n):
        weight += g.weights[a]
    for a in range(n):
        exact, part = total * g.weights[a] / weight, 0
        while part + 1 <= exact:
            part += 1
        parts[a] = part
        g.keys[a] = part - exact
        rest -= part
    for _ in range(rest):
        first = 0
        for a in range(n):
            first = a if g.keys[a] < g.keys[first] else first
        parts[first] += 1
        g.keys[first] = np.inf
