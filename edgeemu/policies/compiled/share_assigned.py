"""Blocks that a placement assigns to devices, and the exact time of their migration, one after the other.

`placement.arrays.assign_groups` and `view.migration_time`, in the same order.
"""

from typing import NamedTuple

import numpy as np

from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.policies.compiled.tables import Batch, MoveSizes
from edgeemu_kernels.arrays import Floats, Ints

NOBODY = -1


class BlockTables(NamedTuple):
    """Owners of blocks, as `view.block_owners` has them, as places among n devices, and links between these.

    `chunk_bits`: of a chunk of a block; 0 where chunks keep no processor busy.
    """

    n_layers: int
    n_units: int
    owners: Ints
    s_per_bit: Floats  # [n, n] on the wire, as are the delays
    delay_s: Floats  # [n, n]
    chunk_bits: Floats  # [1]
    message_s: Floats  # [n] that a message keeps its sender and its receiver busy
    byte_s: Floats  # [n] the same for each byte


class Assigned(NamedTuple):
    """Places to write in: who has which block then, and what is sent."""

    heads: Ints  # [n_layers, n_groups]
    units: Ints  # [n_layers, n_units]
    left: Ints  # [n]
    bits: Floats  # [n, n]
    chunks: Floats  # [n, n]
    flash_s: Floats  # [n]
    handled_s: Floats  # [2, n] for which chunks that go, and that come, keep each device busy
    rest_s: Floats  # [2, n] what one of them takes besides, at least


def moving_s(y: MoveSizes, a: BlockTables, b: Batch, which: int, g: Assigned) -> float:
    """Assign the blocks of a placement, and compute how long a sequence waits for the migration to it."""
    n, n_groups, n_units, layer = y.n, y.n_groups, a.n_units, 0
    heads = a.owners[2:]
    projs = heads[a.n_layers * n_groups :]
    units = projs[2 * a.n_layers :]
    for pair in range(n * n):
        g.bits[pair] = 0.0
        g.chunks[pair] = 0.0
    for device in range(n):
        g.flash_s[device] = 0.0
    for run in range(b.n_runs):
        at = (which * b.n_runs + run) * n
        for _ in range(b.lengths[run]):
            _assign(b.heads[at:], n, n_groups, heads[layer * n_groups :], g.heads[layer * n_groups :], g.left)
            _assign(b.units[at:], n, n_units, units[layer * n_units :], g.units[layer * n_units :], g.left)
            layer += 1
    embed, lm_head = b.embed[which], b.lm_head[which]
    _send(y, a, g, a.owners[0], embed, y.embed - (y.table if embed == a.owners[1] else 0.0), 0.0)
    _send_feed_forward(y, a, b, which, g, projs[a.n_layers :], units)
    for at in range(layer * n_groups):
        _send(y, a, g, heads[at], g.heads[at], y.head, y.cache[0])
    meets = lm_head == a.owners[0] or lm_head == embed
    _send(y, a, g, a.owners[1], lm_head, y.lm_head - (y.table if meets else 0.0), 0.0)
    _send_projections(y, a, b, which, g, heads, projs)
    longest_s = 0.0
    for device in range(n):
        longest_s = max(longest_s, g.flash_s[device])
    return max(longest_s, _handled_s(a, g, n) if a.chunk_bits[0] > 0.0 else _sent_s(a, g, n))


def _sent_s(a: BlockTables, g: Assigned, n: int) -> float:
    """When the last of all links has sent all."""
    longest_s = 0.0
    for pair in range(n * n):
        if g.bits[pair] > 0.0:
            longest_s = max(longest_s, a.s_per_bit[pair] * g.bits[pair] + a.delay_s[pair])
    return longest_s


def _assign(counts: Ints, n: int, total: int, old: Ints, new: Ints, left: Ints) -> None:
    """Assign the parts of one layer so that each device has its count: as many as possible stay where they are."""
    for device in range(n):
        left[device] = counts[device]
    for part in range(total):
        stays = left[old[part]] > 0
        new[part] = old[part] if stays else NOBODY
        if stays:
            left[old[part]] -= 1
    device = 0
    for part in range(total):
        if new[part] == NOBODY:
            while left[device] == 0:
                device += 1
            new[part] = device
            left[device] -= 1


def _handled_s(a: BlockTables, g: Assigned, n: int) -> float:
    """When the last of all links and processors has sent all: `view.transfer_prices.TransferPrices.slowest_s`."""
    longest_s = 0.0
    for at in range(2 * n):
        g.handled_s[at] = 0.0
        g.rest_s[at] = np.inf
    for source in range(n):
        for target in range(n):
            pair = source * n + target
            if g.bits[pair] > 0.0:
                chunks = g.chunks[pair]
                size_bytes = g.bits[pair] / 8.0 + MESSAGE_HEADER_BYTES * chunks
                wire_s, delay_s = 8.0 * size_bytes * a.s_per_bit[pair], a.delay_s[pair]
                sent_s = chunks * a.message_s[source] + size_bytes * a.byte_s[source]
                taken_s = chunks * a.message_s[target] + size_bytes * a.byte_s[target]
                pace_s = max(wire_s, max(sent_s, taken_s))
                longest_s = max(longest_s, pace_s + (wire_s + sent_s + taken_s - pace_s) / chunks + delay_s)
                g.handled_s[source] += sent_s
                g.handled_s[n + target] += taken_s
                g.rest_s[source] = min(g.rest_s[source], (wire_s + taken_s) / chunks + delay_s)
                g.rest_s[n + target] = min(g.rest_s[n + target], (wire_s + sent_s) / chunks + delay_s)
    for at in range(2 * n):
        if g.rest_s[at] < np.inf:
            device = at if at < n else at - n
            handled_s = g.handled_s[device] + g.handled_s[n + device]
            longest_s = max(longest_s, handled_s + g.rest_s[at])
    return longest_s


def _chunks(bits: float, chunk_bits: float) -> int:
    """Chunks of a block, the last of which may be smaller."""
    number = int(bits / chunk_bits)
    while number * chunk_bits < bits:
        number += 1
    while number > 0 and (number - 1) * chunk_bits >= bits:
        number -= 1
    return number


def _send(y: MoveSizes, a: BlockTables, g: Assigned, source: int, target: int, size: float, cache: float) -> None:
    """Add a block, if its device changes."""
    if source != target:
        bits, chunk_bits = 8.0 * (cache + (0.0 if y.on_flash else size)), a.chunk_bits[0]
        g.bits[source * y.n + target] += bits
        if chunk_bits > 0.0:
            g.chunks[source * y.n + target] += _chunks(bits, chunk_bits)
        if y.on_flash:
            g.flash_s[target] += size / y.flash_bytes_per_s


def _send_feed_forward(
    y: MoveSizes, a: BlockTables, b: Batch, which: int, g: Assigned, ffn_at: Ints, unit_at: Ints
) -> None:
    """Add feed-forward blocks, or their units, from where they are: `ffn_at`, NOBODY where a block is divided."""
    layer, n_units = 0, a.n_units
    for run in range(b.n_runs):
        whole = NOBODY
        for device in range(y.n):
            if b.units[(which * b.n_runs + run) * y.n + device] == n_units:
                whole = device
        for _ in range(b.lengths[run]):
            if whole != NOBODY and ffn_at[layer] != NOBODY:
                _send(y, a, g, ffn_at[layer], whole, y.ffn, 0.0)
            else:
                for unit in range(n_units):
                    at, size = layer * n_units + unit, y.unit if unit > 0 else y.first_unit
                    _send(y, a, g, unit_at[at], g.units[at], size, 0.0)
            layer += 1


def _send_projections(
    y: MoveSizes, a: BlockTables, b: Batch, which: int, g: Assigned, head_at: Ints, proj_at: Ints
) -> None:
    """Add projections, or their columns, from where they are: `proj_at`, NOBODY where columns are with the heads."""
    layer = 0
    for run in range(b.n_runs):
        whole = b.proj[which * b.n_runs + run]
        for _ in range(b.lengths[run]):
            if whole >= 0 and proj_at[layer] >= 0:
                _send(y, a, g, proj_at[layer], whole, y.proj, 0.0)
            else:
                for group in range(y.n_groups):
                    at, size = layer * y.n_groups + group, y.column if group > 0 else y.first_column
                    source = head_at[at] if proj_at[layer] < 0 else proj_at[layer]
                    _send(y, a, g, source, g.heads[at] if whole < 0 else whole, size, 0.0)
            layer += 1
