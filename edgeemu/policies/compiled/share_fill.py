"""Times of the parts of a decode step on chosen devices: `view.share_times`, number by number."""

from typing import NamedTuple

import numpy as np

from edgeemu.policies.compiled.tables import StepTables
from edgeemu_kernels.arrays import Floats, Ints

BLOCKS = 4  # embedding, projection, feed-forward block, output matrix


class Speeds(NamedTuple):
    """Devices of a cluster as they are expected."""

    devices: Ints  # [n] chosen
    flops_per_s: Floats  # of all
    mem_bytes_per_s: Floats
    overhead_s: Floats


class Links(NamedTuple):
    """Links between devices, the chosen ones and perhaps others."""

    width: int  # how many they are
    rows: Ints  # [n] of the chosen ones
    s_per_bit: Floats  # [width, width]
    delay_s: Floats  # [width, width]


class StepWorks(NamedTuple):
    """Works of the parts of a step: of blocks, of 1, 2, 3 … columns, of units, of sums; and what heads have."""

    flops: Floats
    bytes_read: Floats
    head_flops: float  # of the first group
    more_head_flops: float  # of each group besides
    head_bytes: float
    more_head_bytes: float
    attention_bits: float  # of the first group
    more_attention_bits: float


def fill(t: StepTables, v: Speeds, links: Links, p: StepWorks) -> None:
    """Compute all times of a step."""
    copy_links(links, t.n, t.s_per_bit, t.delay_s)
    for pair in range(t.n * t.n):
        t.hop_s[pair] = t.hidden_bits * t.s_per_bit[pair] + t.delay_s[pair]
        t.sum_hop_s[pair] = t.partial_bits * t.s_per_bit[pair] + t.delay_s[pair]
    for groups in range(t.row):
        t.attention_bits[groups] = p.attention_bits + (groups - 1.0) * p.more_attention_bits
    for a in range(t.n):
        _fill_device(t, v, p, a)
        t.quickest_s[a] = np.inf
        for b in range(t.n):
            if b != a:
                t.quickest_s[a] = min(t.quickest_s[a], t.hop_s[a * t.n + b])
    for terms in range(t.n + 2):
        t.least_sums_s[terms] = t.sums_s[terms]
        for a in range(t.n):
            t.least_sums_s[terms] = min(t.least_sums_s[terms], t.sums_s[a * (t.n + 2) + terms])


def copy_links(links: Links, n: int, s_per_bit: Floats, delay_s: Floats) -> None:
    """Copy the links between the chosen devices: [n, n] each."""
    for a in range(n):
        for b in range(n):
            link = links.rows[a] * links.width + links.rows[b]
            s_per_bit[a * n + b] = links.s_per_bit[link]
            delay_s[a * n + b] = links.delay_s[link]


def _fill_device(t: StepTables, v: Speeds, p: StepWorks, a: int) -> None:
    """Compute the times of one device."""
    columns, units = BLOCKS, BLOCKS + t.row - 1
    sums, device = units + t.units_row - 1, v.devices[a]
    t.embed_s[a] = _time_s(v, device, p.flops[0], p.bytes_read[0])
    t.proj_s[a] = _time_s(v, device, p.flops[1], p.bytes_read[1])
    t.ffn_s[a] = _time_s(v, device, p.flops[2], p.bytes_read[2])
    t.lm_head_s[a] = _time_s(v, device, p.flops[3], p.bytes_read[3])
    t.heads_s[a * t.row] = 0.0
    for more in range(t.row - 1):
        flops, bytes_read = p.head_flops + more * p.more_head_flops, p.head_bytes + more * p.more_head_bytes
        t.heads_s[a * t.row + more + 1] = _time_s(v, device, flops, bytes_read)
    _fill_row(v, p, device, columns, t.columns_s[a * t.row :], t.row)
    _fill_row(v, p, device, units, t.units_s[a * t.units_row :], t.units_row)
    _fill_row(v, p, device, sums, t.sums_s[a * (t.n + 2) :], t.n + 2)


def _fill_row(v: Speeds, p: StepWorks, device: int, first: int, times_s: Floats, length: int) -> None:
    """Compute the times of 0, 1, 2 … parts of one kind, of which `first` is the first work."""
    times_s[0] = 0.0
    for more in range(length - 1):
        times_s[more + 1] = _time_s(v, device, p.flops[first + more], p.bytes_read[first + more])


def _time_s(v: Speeds, device: int, flops: float, bytes_read: float) -> float:
    """Time of one work on a device, by the roofline."""
    return max(flops / v.flops_per_s[device], bytes_read / v.mem_bytes_per_s[device]) + v.overhead_s[device]
