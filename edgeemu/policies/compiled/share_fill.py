"""Times of the parts of a decode step on chosen devices: `view.share_times`, number by number."""

from typing import NamedTuple

import numpy as np

from edgeemu.policies.compiled.device_speeds import AllDevices, time_s
from edgeemu.policies.compiled.tables import StepTables
from edgeemu_kernels.arrays import Floats, Ints

BLOCKS = 4  # embedding, projection, feed-forward block, output matrix


class LinkTables(NamedTuple):
    """Links between devices, the chosen ones and perhaps others."""

    width: int  # how many they are
    s_per_bit: Floats  # [width, width]
    delay_s: Floats  # [width, width]


class StepWorks(NamedTuple):
    """Works of the parts of a step: of blocks, of 1, 2, 3 … columns, of units, of sums; and what heads have.

    Works of heads are those with as many positions cached as `begin` says, and what each more adds.
    """

    flops: Floats
    bytes_read: Floats
    begin: int
    heads: Floats  # [6] of the first group, and of each besides: operations, bytes, bits that are sent
    more: Floats  # [6]


def fill(t: StepTables, v: AllDevices, devices: Ints, links: LinkTables, rows: Ints, p: StepWorks, past: int) -> None:
    """Compute all times of a step with so many positions cached on chosen devices, [n].

    `links`: on the wire. `rows`: of the devices among them.
    """
    copy_links(links, rows, t.n, t.wire_s_per_bit, t.wire_delay_s)
    _add_ends(t, v, devices)
    more = past - p.begin
    bits, more_bits = p.heads[4] + more * p.more[4], p.heads[5] + more * p.more[5]
    for pair in range(t.n * t.n):
        t.hop_s[pair] = t.hidden_bits * t.s_per_bit[pair] + t.delay_s[pair]
        t.sum_hop_s[pair] = t.partial_bits * t.s_per_bit[pair] + t.delay_s[pair]
    for groups in range(t.row):
        t.attention_bits[groups] = bits + (groups - 1.0) * more_bits
    for a in range(t.n):
        _fill_device(t, v, devices[a], p, more, a)
        t.quickest_s[a] = np.inf
        for b in range(t.n):
            if b != a:
                t.quickest_s[a] = min(t.quickest_s[a], t.hop_s[a * t.n + b])
    for terms in range(t.n + 2):
        t.least_sums_s[terms] = t.sums_s[terms]
        for a in range(t.n):
            t.least_sums_s[terms] = min(t.least_sums_s[terms], t.sums_s[a * (t.n + 2) + terms])


def copy_links(links: LinkTables, rows: Ints, n: int, s_per_bit: Floats, delay_s: Floats) -> None:
    """Copy the links between the chosen devices: [n, n] each."""
    for a in range(n):
        for b in range(n):
            link = rows[a] * links.width + rows[b]
            s_per_bit[a * n + b] = links.s_per_bit[link]
            delay_s[a * n + b] = links.delay_s[link]


def _add_ends(t: StepTables, v: AllDevices, devices: Ints) -> None:
    """Add to the links what messages take of the processors at both ends: `view.message_prices`."""
    t.busy[0] = 0
    for a in range(t.n):
        t.message_s[a] = v.message_s[devices[a]]
        t.byte_s[a] = v.byte_s[devices[a]]
        if t.message_s[a] > 0.0 or t.byte_s[a] > 0.0:
            t.busy[0] = 1
    for a in range(t.n):
        for b in range(t.n):
            pair, ends_s, bit_s = a * t.n + b, 0.0, 0.0
            if a != b:
                ends_s, bit_s = t.message_s[a] + t.message_s[b], t.byte_s[a] / 8.0 + t.byte_s[b] / 8.0
            t.s_per_bit[pair] = t.wire_s_per_bit[pair] + bit_s
            t.delay_s[pair] = t.wire_delay_s[pair] + ends_s


def _fill_device(t: StepTables, v: AllDevices, device: int, p: StepWorks, positions: int, a: int) -> None:
    """Compute the times of one device. `positions`: that are cached besides."""
    columns, units = BLOCKS, BLOCKS + t.row - 1
    sums = units + t.units_row - 1
    t.embed_s[a] = time_s(v, device, p.flops[0], p.bytes_read[0])
    t.proj_s[a] = time_s(v, device, p.flops[1], p.bytes_read[1])
    t.ffn_s[a] = time_s(v, device, p.flops[2], p.bytes_read[2])
    t.lm_head_s[a] = time_s(v, device, p.flops[3], p.bytes_read[3])
    t.heads_s[a * t.row] = 0.0
    flops, more_flops = p.heads[0] + positions * p.more[0], p.heads[1] + positions * p.more[1]
    bytes_read, more_bytes = p.heads[2] + positions * p.more[2], p.heads[3] + positions * p.more[3]
    for more in range(t.row - 1):
        took_s = time_s(v, device, flops + more * more_flops, bytes_read + more * more_bytes)
        t.heads_s[a * t.row + more + 1] = took_s
    _fill_row(v, p, device, columns, t.columns_s[a * t.row :], t.row)
    _fill_row(v, p, device, units, t.units_s[a * t.units_row :], t.units_row)
    _fill_row(v, p, device, sums, t.sums_s[a * (t.n + 2) :], t.n + 2)


def _fill_row(v: AllDevices, p: StepWorks, device: int, first: int, times_s: Floats, length: int) -> None:
    """Compute the times of 0, 1, 2 … parts of one kind, of which `first` is the first work."""
    times_s[0] = 0.0
    for more in range(length - 1):
        times_s[more + 1] = time_s(v, device, p.flops[first + more], p.bytes_read[first + more])
