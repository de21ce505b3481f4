"""Placements that a search looks at near the one in force, in one batch: `search.share_search.Vicinity`, in its order.

Of models of few layers: each is a run.
"""

from typing import NamedTuple

import numpy as np

from edgeemu.policies.compiled.device_speeds import (
    FFN_FLOPS,
    FIRST_BYTES,
    FIRST_FLOPS,
    GROUP_BYTES,
    GROUP_FLOPS,
    PROJ_FLOPS,
    AllDevices,
    LayerWorks,
    block_s,
    time_s,
    work,
)
from edgeemu.policies.compiled.share_fill import LinkTables
from edgeemu.policies.compiled.share_known import ChosenDevices, Layouts, choose
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


class Seeds(NamedTuple):
    """Terms of the placements that are looked at, and places to write in."""

    devices: Ints  # [n] chosen ones
    weights: Floats  # [n]
    keys: Floats  # [n]


def look_around(
    k: Layouts,
    devices: Ints,
    memory_bytes: Ints,
    handled_s_per_bit: Floats,
    links: LinkTables,
    rows: Ints,
    most: int,
    cache: float,
    chunk_bits: float,
    c: ChosenDevices,
    o: Batch,
    m: MemoryTables,
    y: WayTables,
    v: AllDevices,
    p: LayerWorks,
    past: int,
    s: Base,
    b: Batch,
    g: Seeds,
) -> int:
    """Write what `choose` does into `c` and `o`, and simple placements, and known ones, into `b`; how many are in `o`.

    `cache`: bytes of a group's cache. `chunk_bits`: of blocks that move; 0 where they keep no processor busy.
    """
    c.cache[0] = cache
    c.chunk_bits[0] = chunk_bits
    placed = choose(k, devices, v, memory_bytes, handled_s_per_bit, links, rows, most, c, o)
    if placed > 0:
        begin_search(y, s, b)
        c.found[4] = _write_simple(y, v, p, past, s, b, o, placed, g, 0)
        write_base(s, b, c.found[4])
        c.found[3] = missing_bytes(m, y, b, c.found[4])
    return placed


def write_others(
    y: WayTables,
    v: AllDevices,
    p: LayerWorks,
    past: int,
    s: Base,
    b: Batch,
    o: Batch,
    known: int,
    g: Seeds,
    count: int,
) -> int:
    """Write the placements near the one in force that are no small changes of it; the number of placements.

    `count`: where they begin. `o`: so many `known` ones: itself, then those that the run has left.
    """
    begin_search(y, s, b)
    return _write_simple(y, v, p, past, s, b, o, known, g, elsewhere(s, b, count))


def _write_simple(
    y: WayTables,
    v: AllDevices,
    p: LayerWorks,
    past: int,
    s: Base,
    b: Batch,
    o: Batch,
    known: int,
    g: Seeds,
    count: int,
) -> int:
    """Write everything on one device each, all divided in proportion, and what the run has left; the number."""
    for device in range(s.n):
        _write_alone(s, b, count, device)
        count += 1
    if s.divide:
        flops = work(p, past, FIRST_FLOPS) + p.n_groups * work(p, past, GROUP_FLOPS)
        bytes_read = work(p, past, FIRST_BYTES) + p.n_groups * work(p, past, GROUP_BYTES)
        for a in range(s.n):
            device = g.devices[a]
            layer_s = time_s(v, device, flops, bytes_read) + block_s(v, p, past, PROJ_FLOPS, device)
            g.weights[a] = 1.0 / (layer_s + block_s(v, p, past, FFN_FLOPS, device))
        _write_in_proportion(s, b, count, g)
        for a in range(s.n):
            g.weights[a] = y.capacity[a] + 1.0
        _write_in_proportion(s, b, count + 1, g)
        count += 2
    for which in range(1, known):
        copy_placement(o, which, b, count)
        count += 1
    return count


def begin_search(y: WayTables, s: Base, b: Batch) -> None:
    """Begin with the placement in force, of which each layer is a run."""
    s.ends[0] = y.begin[1]
    s.ends[1] = y.begin[2]
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
