"""Devices to search on, and all as they are expected: as `view.step_time` and `view.outlook` have them."""

from typing import NamedTuple

import numpy as np

from edgeemu_kernels.arrays import Floats, Ints

FIRST_FLOPS, GROUP_FLOPS, FIRST_BYTES, GROUP_BYTES = range(4)  # among the works of a layer
PROJ_FLOPS, FFN_FLOPS, EMBED_FLOPS, LM_HEAD_FLOPS = 4, 6, 8, 10  # each before its bytes


class AllDevices(NamedTuple):
    """All devices of a cluster, as they are or are expected."""

    n: int
    flops_per_s: Floats  # [n]
    mem_bytes_per_s: Floats  # [n]
    overhead_s: Floats  # [n]
    message_s: Floats  # [n] that a message keeps its sender and its receiver busy
    byte_s: Floats  # [n] the same for each byte


class LayerWorks(NamedTuple):
    """Works of a layer and of the ends, affine in what is cached: with `begin` positions, and what each more adds.

    Operations and bytes of heads but for their groups, of a group, of the projection, of the feed-forward block, of the
    embedding, of the output matrix.
    """

    n_groups: int
    begin: int
    works: Floats  # [12]
    more: Floats  # [12]


class DeviceForecasts(NamedTuple):
    """Forecasts of devices, as `view.outlook` has them."""

    n: int
    devices: Ints  # [n], ascending
    lasts_tokens: Floats  # [n]
    mean: Floats  # [n]


class DeviceChoice(NamedTuple):
    """Places to write in, of all devices: which take part, and how long a layer takes on each."""

    takes_part: Ints  # [n]
    layers_s: Floats  # [n]


def expect(v: AllDevices, f: DeviceForecasts, tokens: float, found: Floats) -> None:
    """Find by how many times each device takes longer in the mean over some tokens, and its speeds then.

    `found`: slowdowns, FLOP/s, bytes/s, overheads, and times of messages and of their bytes, [6, v.n].
    """
    for a in range(v.n):
        found[a] = 1.0
    for at in range(f.n):
        present = min(1.0, f.lasts_tokens[at] / tokens)
        found[at if f.n == v.n else f.devices[at]] = present + (1.0 - present) * f.mean[at]
    for a in range(v.n):
        found[v.n + a] = v.flops_per_s[a] / found[a]
        found[2 * v.n + a] = v.mem_bytes_per_s[a] / found[a]
        found[3 * v.n + a] = v.overhead_s[a] * found[a]
        found[4 * v.n + a] = v.message_s[a] * found[a]
        found[5 * v.n + a] = v.byte_s[a] * found[a]


def promising(
    v: AllDevices, p: LayerWorks, past: int, owners: Ints, n_owners: int, size: int, c: DeviceChoice, chosen: Ints
) -> None:
    """Choose devices to search on, ascending: the owners of blocks, if they are not too many, and the fastest: [size].

    `owners`: below 0, none has the block.
    """
    count = 0
    for a in range(v.n):
        c.takes_part[a] = 0
    for at in range(n_owners):
        if owners[at] >= 0 and c.takes_part[owners[at]] == 0:
            c.takes_part[owners[at]] = 1
            count += 1
    if count > size:
        count = 0
        for a in range(v.n):
            c.takes_part[a] = 0
    if count < size:
        _add_fastest(v, p, past, size - count, c)
    count = 0
    for a in range(v.n):
        if c.takes_part[a] == 1:
            chosen[count] = a
            count += 1


def _add_fastest(v: AllDevices, p: LayerWorks, past: int, more: int, c: DeviceChoice) -> None:
    """Add the devices on which a complete layer takes least, the first where they are alike."""
    for a in range(v.n):
        computed_s = work(p, past, FIRST_FLOPS) / v.flops_per_s[a] + v.overhead_s[a]
        computed_s = computed_s + p.n_groups * (work(p, past, GROUP_FLOPS) / v.flops_per_s[a])
        read_s = work(p, past, FIRST_BYTES) / v.mem_bytes_per_s[a] + v.overhead_s[a]
        read_s = read_s + p.n_groups * (work(p, past, GROUP_BYTES) / v.mem_bytes_per_s[a])
        layer_s = max(computed_s, read_s) + block_s(v, p, past, PROJ_FLOPS, a)
        c.layers_s[a] = np.inf if c.takes_part[a] == 1 else layer_s + block_s(v, p, past, FFN_FLOPS, a)
    for _ in range(more):
        best = 0
        for a in range(v.n):
            best = a if c.layers_s[a] < c.layers_s[best] else best
        c.takes_part[best] = 1
        c.layers_s[best] = np.inf


def work(p: LayerWorks, past: int, which: int) -> float:
    """One of the works of a layer with so many positions cached."""
    return p.works[which] + (past - p.begin) * p.more[which]


def block_s(v: AllDevices, p: LayerWorks, past: int, which: int, a: int) -> float:
    """Time of a block on a device."""
    return time_s(v, a, work(p, past, which), work(p, past, which + 1))


def time_s(v: AllDevices, a: int, flops: float, bytes_read: float) -> float:
    """Time of some work on a device."""
    return max(flops / v.flops_per_s[a], bytes_read / v.mem_bytes_per_s[a]) + v.overhead_s[a]
