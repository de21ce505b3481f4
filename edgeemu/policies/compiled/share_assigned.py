"""Blocks that a placement assigns to devices, and the exact time of their migration, one after the other.

`placement.arrays.assign_groups` and `view.migration_time`, in the same order.
"""

from typing import NamedTuple

from edgeemu.policies.compiled.tables import Batch, MoveSizes
from edgeemu_kernels.arrays import Floats, Ints

NOBODY = -1


class BlockTables(NamedTuple):
    """Owners of blocks, as `view.block_owners` has them, as places among n devices, and links between these."""

    n_layers: int
    n_units: int
    owners: Ints
    s_per_bit: Floats  # [n, n]
    delay_s: Floats  # [n, n]


class Assigned(NamedTuple):
    """Places to write in: who has which block then, and what is sent."""

    heads: Ints  # [n_layers, n_groups]
    units: Ints  # [n_layers, n_units]
    left: Ints  # [n]
    bits: Floats  # [n, n]
    flash_s: Floats  # [n]


def moving_s(y: MoveSizes, a: BlockTables, b: Batch, which: int, g: Assigned) -> float:
    """Assign the blocks of a placement, and compute how long a sequence waits for the migration to it."""
    n, n_groups, n_units, layer = y.n, y.n_groups, a.n_units, 0
    heads = a.owners[2:]
    projs = heads[a.n_layers * n_groups :]
    units = projs[2 * a.n_layers :]
    for pair in range(n * n):
        g.bits[pair] = 0.0
    for device in range(n):
        g.flash_s[device] = 0.0
    for run in range(b.n_runs):
        at = (which * b.n_runs + run) * n
        for _ in range(b.lengths[run]):
            _assign(b.heads[at:], n, n_groups, heads[layer * n_groups :], g.heads[layer * n_groups :], g.left)
            _assign(b.units[at:], n, n_units, units[layer * n_units :], g.units[layer * n_units :], g.left)
            layer += 1
    embed, lm_head = b.embed[which], b.lm_head[which]
    _send(y, g, a.owners[0], embed, y.embed - (y.table if embed == a.owners[1] else 0.0), 0.0)
    _send_feed_forward(y, b, which, g, projs[a.n_layers :], units, n_units)
    for at in range(layer * n_groups):
        _send(y, g, heads[at], g.heads[at], y.head, y.cache[0])
    meets = lm_head == a.owners[0] or lm_head == embed
    _send(y, g, a.owners[1], lm_head, y.lm_head - (y.table if meets else 0.0), 0.0)
    _send_projections(y, b, which, g, heads, projs)
    longest_s = 0.0
    for device in range(n):
        longest_s = max(longest_s, g.flash_s[device])
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


def _send(y: MoveSizes, g: Assigned, source: int, target: int, size: float, cache: float) -> None:
    """Add a block, if its device changes."""
    if source != target:
        g.bits[source * y.n + target] += 8.0 * (cache + (0.0 if y.on_flash else size))
        if y.on_flash:
            g.flash_s[target] += size / y.flash_bytes_per_s


def _send_feed_forward(
    y: MoveSizes, b: Batch, which: int, g: Assigned, ffn_at: Ints, unit_at: Ints, n_units: int
) -> None:
    """Add feed-forward blocks, or their units, from where they are: `ffn_at`, NOBODY where a block is divided."""
    layer = 0
    for run in range(b.n_runs):
        whole = NOBODY
        for device in range(y.n):
            if b.units[(which * b.n_runs + run) * y.n + device] == n_units:
                whole = device
        for _ in range(b.lengths[run]):
            if whole != NOBODY and ffn_at[layer] != NOBODY:
                _send(y, g, ffn_at[layer], whole, y.ffn, 0.0)
            else:
                for unit in range(n_units):
                    at, size = layer * n_units + unit, y.unit if unit > 0 else y.first_unit
                    _send(y, g, unit_at[at], g.units[at], size, 0.0)
            layer += 1


def _send_projections(y: MoveSizes, b: Batch, which: int, g: Assigned, head_at: Ints, proj_at: Ints) -> None:
    """Add projections, or their columns, from where they are: `proj_at`, NOBODY where columns are with the heads."""
    layer = 0
    for run in range(b.n_runs):
        whole = b.proj[which * b.n_runs + run]
        for _ in range(b.lengths[run]):
            if whole >= 0 and proj_at[layer] >= 0:
                _send(y, g, proj_at[layer], whole, y.proj, 0.0)
            else:
                for group in range(y.n_groups):
                    at, size = layer * y.n_groups + group, y.column if group > 0 else y.first_column
                    source = head_at[at] if proj_at[layer] < 0 else proj_at[layer]
                    _send(y, g, source, g.heads[at] if whole < 0 else whole, size, 0.0)
            layer += 1
