"""Memory of one placement, and its migration: `view.share_memory` and `view.share_moves_time`, number by number."""

from edgeemu.policies.compiled.tables import Batch, MemoryTables, Scratch, WayTables
from edgeemu_kernels.arrays import Floats, Ints


def missing_bytes(m: MemoryTables, y: WayTables, b: Batch, which: int) -> int:
    """Bytes by which devices would hold more than they have."""
    over = 0
    if y.begin[0] == 1:  # there is room for everything on each
        return 0
    members = _most_members(m, b, which)
    for device in range(m.n):
        over += max(_held(m, b, which, device, members) - y.capacity[device], 0)
    return over


def lacking_bytes(m: MemoryTables, y: WayTables, b: Batch, which: int, device: int) -> int:
    """Bytes by which one device would hold more than it has."""
    return max(_held(m, b, which, device, _most_members(m, b, which)) - y.capacity[device], 0)


def lacks_anyway(m: MemoryTables, y: WayTables, b: Batch, which: int, device: int) -> bool:
    """Whether one device lacks memory for what it has, however many share the divided parts."""
    lacks = True
    for members in range(m.n + 1):
        lacks = lacks and _held(m, b, which, device, members) > y.capacity[device]
    return lacks


def _most_members(m: MemoryTables, b: Batch, which: int) -> int:
    """Devices that share the divided parts of a layer, at most."""
    members = 0
    for run in range(b.n_runs):
        members = max(members, _members(m, b, which * b.n_runs + run))
    return members


def _members(m: MemoryTables, b: Batch, at: int) -> int:
    """Devices that share the divided parts of a layer."""
    n, members = b.n, 0
    heads, units, split_proj = b.heads[at * n :], b.units[at * n :], b.proj[at] < 0
    for a in range(n):
        if units[a] == m.n_units:  # the feed-forward block is whole
            return _holders(heads, n) if split_proj else 0
        members += units[a] > 0 or (split_proj and heads[a] > 0)
    return members


def _holders(counts: Ints, n: int) -> int:
    holders = 0
    for a in range(n):
        holders += counts[a] > 0
    return holders


def _held(m: MemoryTables, b: Batch, which: int, device: int, members: int) -> int:
    """Bytes that a device holds at its fullest."""
    held, widest, columns, split, gathers, used = 0, 0, 0, 0, False, False
    workspace = 0
    for run in range(b.n_runs):
        at, layers = which * b.n_runs + run, b.lengths[run]
        heads, units, proj = b.heads[at * m.n + device], b.units[at * m.n + device], b.proj[at]
        widest = max(widest, heads)
        if heads > 0:
            held += layers * (heads * m.group + m.norm)
            if proj < 0:
                held += layers * (heads * m.column + m.columns_bias)
                columns = max(columns, heads)
                gathers = True
        if proj == device:
            held += layers * m.proj
            workspace = max(workspace, m.proj_workspace)
            gathers = True
        if units > 0:
            if units == m.n_units:
                held += layers * m.ffn
                workspace = max(workspace, m.ffn_workspace)
            else:
                held += layers * (units * m.unit + m.norm + m.units_bias)
                split = max(split, units)
        used = used or heads > 0 or units > 0 or proj == device
    workspace = max(workspace, max(m.head_workspace[widest], m.columns_workspace[columns]))
    workspace = max(workspace, m.units_workspace[split])
    if b.embed[which] == device:
        held += m.embed - (m.shared if b.lm_head[which] == device else 0)
        workspace, used = max(workspace, m.embed_workspace), True
    if b.lm_head[which] == device:
        held += m.lm_head
        workspace, used = max(workspace, m.lm_head_workspace), True
    messages = m.collective[members * m.row + widest] * m.once if used else 0
    return held + workspace + messages + (m.proj_messages if gathers else 0)


def migration_s(y: WayTables, b: Batch, w: Scratch, which: int) -> float:
    """Seconds that a sequence waits for the migration to one placement of a batch."""
    for a in range(y.n):
        w.weights[a] = 0.0
        w.caches[a] = 0.0
        w.lost[a] = 0.0
    for run in range(b.n_runs):
        _add_layers(y, b, w, which * b.n_runs + run, run)
    return moved_s(y, b, w, which)


def moved_s(y: WayTables, b: Batch, w: Scratch, which: int) -> float:
    """Seconds until the ends of the model, and all that layers bring to devices, are there."""
    n, embed, lm_head = y.n, b.embed[which], b.lm_head[which]
    _add_end(w, y.embed - (y.table if embed == y.begin[2] else 0.0), y.begin[1], embed)
    meets = lm_head == y.begin[1] or lm_head == embed
    _add_end(w, y.lm_head - (y.table if meets else 0.0), y.begin[2], lm_head)
    sent, longest_s, giver = 0.0, 0.0, giver_of(w, n)
    for a in range(n):
        at_once = w.caches[a] + (0.0 if y.on_flash else w.weights[a])
        sent += at_once
        linked_s = 8.0 * at_once * y.s_per_bit[giver * n + a]
        if y.on_flash:
            linked_s = max(linked_s, w.weights[a] / y.flash_bytes_per_s)
        longest_s = max(longest_s, linked_s)
    return max(longest_s, 8.0 * sent * y.handled_s_per_bit[giver])


def giver_of(w: Scratch, n: int) -> int:
    """Device that gives most, the first of those alike."""
    giver = 0
    for a in range(n):
        if w.lost[a] < w.lost[giver]:
            giver = a
    return giver


def _add_layers(y: WayTables, b: Batch, w: Scratch, at: int, run: int) -> None:
    """Add what the layers of a run bring to each device, and what they take."""
    n, proj, old_proj = y.n, b.proj[at], y.old_proj[run]
    layers = 1.0 * b.lengths[run]  # so that all products are floats: conversions take time
    for a in range(n):
        heads, units = b.heads[at * n + a], b.units[at * n + a]
        more, parts = heads - y.old_heads[run * n + a], units - y.old_units[run * n + a]
        columns = more if proj < 0 and old_proj < 0 else 0
        if proj != old_proj:
            columns = columns_on(y, proj, heads, a) - columns_on(y, old_proj, y.old_heads[run * n + a], a)
        if more != 0 or parts != 0 or columns != 0:  # most have what they had
            groups, shards, rows = more * layers, parts * layers, columns * layers
            w.weights[a] += max(groups, 0.0) * y.head + max(rows, 0.0) * y.column + max(shards, 0.0) * y.unit
            w.caches[a] += max(groups, 0.0) * y.cache[0]
            w.lost[a] += groups * y.head + rows * y.column + shards * y.unit


def columns_on(y: WayTables, proj: int, heads: int, device: int) -> int:
    """Columns of a projection on a device."""
    if proj < 0:
        return heads
    return y.n_groups if proj == device else 0


def _add_end(w: Scratch, size: float, before: int, after: int) -> None:
    """Add an end of the model that moves."""
    if after != before:
        w.weights[after] += size
        w.lost[before] -= size


def missing(m: MemoryTables, y: WayTables, b: Batch, found: Ints) -> None:
    """Compute the bytes that devices lack for each placement of a batch: [k]."""
    for which in range(b.k):
        found[which] = missing_bytes(m, y, b, which)


def migrations(y: WayTables, b: Batch, w: Scratch, found_s: Floats) -> None:
    """Compute the migrations to all placements of a batch: [k]."""
    for which in range(b.k):
        found_s[which] = migration_s(y, b, w, which)


def have_room(
    m: MemoryTables, y: WayTables, b: Batch, w: Scratch, which: int, copied: int, installed_bytes: Ints
) -> int:
    """Whether devices have room for what comes to one placement of a batch, beside what the first one takes.

    `copied`: bytes that each needs besides. `installed_bytes` [n]: all memory, of which a device to which nothing comes
    may use all; one that puts nothing together either may hold more than it has, because it has lost memory.
    """
    members = _most_members(m, b, 0)
    migration_s(y, b, w, which)
    for device in range(m.n):
        arriving, limit = w.weights[device] + w.caches[device], y.capacity[device]
        if arriving == 0.0 and not _gets_an_end(y, b, which, device):
            if not _has_shards(m, b, which, device):
                continue
            limit = max(limit, installed_bytes[device])
        if _held(m, b, 0, device, members) + arriving + copied > limit:
            return 0
    return 1


def _gets_an_end(y: WayTables, b: Batch, which: int, device: int) -> bool:
    """Whether an end of the model moves to a device, perhaps without weights: the table is there."""
    embed = b.embed[which] == device and y.begin[1] != device
    return embed or (b.lm_head[which] == device and y.begin[2] != device)


def _has_shards(m: MemoryTables, b: Batch, which: int, device: int) -> bool:
    """Whether a device has shards in a placement, which it may have to put together."""
    found = False
    for run in range(b.n_runs):
        at = which * b.n_runs + run
        heads, units = b.heads[at * m.n + device], b.units[at * m.n + device]
        found = found or (b.proj[at] < 0 and heads > 0) or (units > 0 and units < m.n_units)
    return found
