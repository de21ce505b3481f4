"""Blocks that a placement assigns to devices, and the exact time of their migration, one after the other.

`placement.arrays.assign_groups` and `view.migration_time`, in the same order.
"""

from typing import NamedTuple

from edgeemu.policies.compiled.tables import Batch
from edgeemu_kernels.arrays import Floats, Ints

NOBODY = -1


class BlockTables(NamedTuple):
    """Bytes of blocks and shards, links, and who has which block. Devices are places among n."""

    n: int
    n_groups: int
    n_units: int
    on_flash: bool
    flash_bytes_per_s: float
    cache: float  # of a group
    head: float  # weights, from here on
    proj: float
    ffn: float
    embed: float
    lm_head: float
    table: float  # that the ends share
    first_column: float  # with the bias
    column: float
    first_unit: float
    unit: float
    ends: Ints  # [2]
    heads: Ints  # [n_layers, n_groups]
    proj_at: Ints  # [n_layers] NOBODY: it is with the heads
    ffn_at: Ints  # [n_layers] NOBODY: it is divided
    units: Ints  # [n_layers, n_units]
    s_per_bit: Floats  # [n, n]
    delay_s: Floats  # [n, n]


class Assigned(NamedTuple):
    """Places to write in: who has which block then, and what is sent."""

    heads: Ints  # [n_layers, n_groups]
    units: Ints  # [n_layers, n_units]
    left: Ints  # [n]
    bits: Floats  # [n, n]
    flash_s: Floats  # [n]


def moving_s(a: BlockTables, b: Batch, which: int, g: Assigned) -> float:
    """Assign the blocks of a placement, and compute how long a sequence waits for the migration to it."""
    n, layer = a.n, 0
    for pair in range(n * n):
        g.bits[pair] = 0.0
    for device in range(n):
        g.flash_s[device] = 0.0
    for run in range(b.n_runs):
        at = (which * b.n_runs + run) * n
        for _ in range(b.lengths[run]):
            _assign(b.heads[at:], n, a.n_groups, a.heads[layer * a.n_groups :], g.heads[layer * a.n_groups :], g.left)
            _assign(b.units[at:], n, a.n_units, a.units[layer * a.n_units :], g.units[layer * a.n_units :], g.left)
            layer += 1
    embed, lm_head = b.embed[which], b.lm_head[which]
    _send(a, g, a.ends[0], embed, a.embed - (a.table if embed == a.ends[1] else 0.0), 0.0)
    _send_feed_forward(a, b, which, g)
    for at in range(layer * a.n_groups):
        _send(a, g, a.heads[at], g.heads[at], a.head, a.cache)
    meets = lm_head == a.ends[0] or lm_head == embed
    _send(a, g, a.ends[1], lm_head, a.lm_head - (a.table if meets else 0.0), 0.0)
    _send_projections(a, b, which, g)
    longest_s = 0.0
    for device in range(n):
        longest_s = max(longest_s, g.flash_s[device])
    for pair in range(n * n):
        if g.bits[pair] > 0.0:
            longest_s = max(longest_s, a.s_per_bit[pair] * g.bits[pair] + a.delay_s[pair])
    return longest_s


def moving_each_s(a: BlockTables, b: Batch, count: int, g: Assigned, found_s: Floats) -> None:
    """Compute the migrations to the first placements of a batch, of which each layer is a run."""
    for which in range(count):
        found_s[which] = moving_s(a, b, which, g)


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


def _send(a: BlockTables, g: Assigned, source: int, target: int, size: float, cache: float) -> None:
    """Add a block, if its device changes."""
    if source != target:
        g.bits[source * a.n + target] += 8.0 * (cache + (0.0 if a.on_flash else size))
        if a.on_flash:
            g.flash_s[target] += size / a.flash_bytes_per_s


def _send_feed_forward(a: BlockTables, b: Batch, which: int, g: Assigned) -> None:
    layer = 0
    for run in range(b.n_runs):
        whole = NOBODY
        for device in range(a.n):
            if b.units[(which * b.n_runs + run) * a.n + device] == a.n_units:
                whole = device
        for _ in range(b.lengths[run]):
            if whole != NOBODY and a.ffn_at[layer] != NOBODY:
                _send(a, g, a.ffn_at[layer], whole, a.ffn, 0.0)
            else:
                for unit in range(a.n_units):
                    at, size = layer * a.n_units + unit, a.unit if unit > 0 else a.first_unit
                    _send(a, g, a.units[at], g.units[at], size, 0.0)
            layer += 1


def _send_projections(a: BlockTables, b: Batch, which: int, g: Assigned) -> None:
    layer = 0
    for run in range(b.n_runs):
        whole = b.proj[which * b.n_runs + run]
        for _ in range(b.lengths[run]):
            if whole >= 0 and a.proj_at[layer] >= 0:
                _send(a, g, a.proj_at[layer], whole, a.proj, 0.0)
            else:
                for group in range(a.n_groups):
                    at, size = layer * a.n_groups + group, a.column if group > 0 else a.first_column
                    source = a.heads[at] if a.proj_at[layer] < 0 else a.proj_at[layer]
                    _send(a, g, source, g.heads[at] if whole < 0 else whole, size, 0.0)
            layer += 1
