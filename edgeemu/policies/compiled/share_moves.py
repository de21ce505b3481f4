"""Migrations to many placements of a model of one layer: by tables of what each number of parts brings to a device.

The operations of `share_needs` in the same order: those that placements have in common are done once.
"""

from edgeemu.policies.compiled.share_needs import columns_on, migration_s, moved_s
from edgeemu.policies.compiled.share_neighbours import WITH_HEADS
from edgeemu.policies.compiled.tables import Batch, Scratch, StepTables, WayTables


def fill_moves(t: StepTables, y: WayTables, w: Scratch) -> None:
    """Compute what any number of groups, their columns included, and of units brings to each device, and takes."""
    for a in range(t.n):
        old_heads, old_units = y.old_heads[a], y.old_units[a]
        old_columns = columns_on(y, y.old_proj[0], old_heads, a)
        for heads in range(t.row):
            place, groups = a * t.row + heads, 1.0 * (heads - old_heads)
            columns = 1.0 * (columns_on(y, WITH_HEADS, heads, a) - old_columns)
            w.group_weights[place] = max(groups, 0.0) * y.head + max(columns, 0.0) * y.column
            w.group_caches[place] = max(groups, 0.0) * y.cache[0]
            w.group_lost[place] = groups * y.head + columns * y.column
        for units in range(t.units_row):
            place, shards = a * t.units_row + units, 1.0 * (units - old_units)
            w.unit_weights[place] = max(shards, 0.0) * y.unit
            w.unit_lost[place] = shards * y.unit


def layer_migration_s(t: StepTables, y: WayTables, b: Batch, w: Scratch, which: int) -> float:
    """Seconds that a sequence waits for the migration to one placement of a batch."""
    if b.proj[which] >= 0:
        return migration_s(y, b, w, which)
    for a in range(t.n):
        groups, units = a * t.row + b.heads[which * t.n + a], a * t.units_row + b.units[which * t.n + a]
        w.weights[a] = w.group_weights[groups] + w.unit_weights[units]
        w.caches[a] = w.group_caches[groups]
        w.lost[a] = w.group_lost[groups] + w.unit_lost[units]
    return moved_s(y, b, w, which)
