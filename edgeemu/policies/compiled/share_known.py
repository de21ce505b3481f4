"""Placements that a decision knows, as chosen devices have them, and one of those as a cluster has it.

`view.block_owners` and `view.shares` say the same. Of models of few layers: each is a run.
"""

from typing import NamedTuple

from edgeemu.policies.compiled.device_speeds import AllDevices
from edgeemu.policies.compiled.share_assigned import Assigned, BlockTables, moving_s
from edgeemu.policies.compiled.share_fill import LinkTables, copy_links
from edgeemu.policies.compiled.tables import Batch, MoveSizes
from edgeemu.policies.view.block_owners import IN_SHARDS
from edgeemu_kernels.arrays import Floats, Ints


class Layouts(NamedTuple):
    """Owners of blocks in several placements, as `view.block_owners` has them."""

    n_devices: int  # of the cluster
    k: int  # the one in force, then others
    size: int  # of the numbers of each
    n_layers: int
    n_groups: int
    n_units: int
    owners: Ints  # [k, size] devices of the cluster


class ChosenDevices(NamedTuple):
    """Places to write in: what the chosen devices have."""

    found: Ints  # [5] 1 if each has memory for any placement, of the one in force its ends and the bytes that it lacks,
    # and how many simple and known ones are looked at
    devices: Ints  # [n]
    places: Ints  # [n_devices] of each device of the cluster among them, or IN_SHARDS
    owners: Ints  # [size] of the placement in force, as places
    capacity: Ints  # [n] bytes
    handled_s_per_bit: Floats  # [n]
    message_s: Floats  # [n] that a message keeps its sender and its receiver busy
    byte_s: Floats  # [n] the same for each byte
    s_per_bit: Floats  # [n, n]
    delay_s: Floats  # [n, n]
    pace_s_per_bit: Floats  # [n, n] of many chunks of a block: `view.transfer_prices`
    chunk_bits: Floats  # [1] of each; 0 where they keep no processor busy
    cache: Floats  # [1] bytes of a group's cache


def choose(
    p: Layouts,
    devices: Ints,
    v: AllDevices,
    memory_bytes: Ints,
    handled_s_per_bit: Floats,
    links: LinkTables,
    rows: Ints,
    most: int,
    c: ChosenDevices,
    b: Batch,
) -> int:
    """Write what the chosen devices have, and the placements that are on them alone; how many these are.

    None, if the placement in force is on others too. `devices`: chosen ones, ascending. `memory_bytes`,
    `handled_s_per_bit`: of all devices. `rows`: of the chosen ones among the links. `most`: bytes of any placement on
    one device.
    """
    c.found[0] = 1
    for device in range(p.n_devices):
        c.places[device] = IN_SHARDS
    for a in range(b.n):
        device = devices[a]
        c.devices[a] = device
        c.places[device] = a
        c.capacity[a] = memory_bytes[device]
        c.handled_s_per_bit[a] = handled_s_per_bit[device]
        c.message_s[a] = v.message_s[device]
        c.byte_s[a] = v.byte_s[device]
        if memory_bytes[device] < most:
            c.found[0] = 0
    copy_links(links, rows, b.n, c.s_per_bit, c.delay_s)
    for a in range(b.n):
        for other in range(b.n):
            pair, slower_s = a * b.n + other, max(c.handled_s_per_bit[a], c.handled_s_per_bit[other])
            c.pace_s_per_bit[pair] = c.s_per_bit[pair] if a == other else max(c.s_per_bit[pair], slower_s)
    count = 0
    for which in range(p.k):
        if _is_on_chosen(p, c, which):
            _write(p, c, b, count, which)
            count += 1
        elif which == 0:
            return 0
    for at in range(p.size):
        c.owners[at] = IN_SHARDS if p.owners[at] < 0 else c.places[p.owners[at]]
    c.found[1] = c.owners[0]
    c.found[2] = c.owners[1]
    return count


def _is_on_chosen(p: Layouts, c: ChosenDevices, which: int) -> bool:
    for at in range(p.size):
        device = p.owners[which * p.size + at]
        if device >= 0 and c.places[device] < 0:
            return False
    return True


def _write(p: Layouts, c: ChosenDevices, b: Batch, count: int, which: int) -> None:
    """Write a placement into a batch."""
    owners = p.owners[which * p.size :]
    heads = owners[2:]
    projs = heads[p.n_layers * p.n_groups :]
    units = projs[2 * p.n_layers :]
    b.embed[count] = c.places[owners[0]]
    b.lm_head[count] = c.places[owners[1]]
    for run in range(b.n_runs):
        here = count * b.n_runs + run
        b.proj[here] = c.places[projs[run]] if projs[run] >= 0 else IN_SHARDS
        _count(c, heads[run * p.n_groups :], p.n_groups, b.heads[here * b.n :], b.n)
        _count(c, units[run * p.n_units :], p.n_units, b.units[here * b.n :], b.n)


def _count(c: ChosenDevices, owners: Ints, parts: int, counts: Ints, n: int) -> None:
    """Count the parts of a layer that each device has."""
    for a in range(n):
        counts[a] = 0
    for part in range(parts):
        counts[c.places[owners[part]]] += 1


def write_owners(y: MoveSizes, a: BlockTables, b: Batch, which: int, g: Assigned, devices: Ints, owners: Ints) -> None:
    """Write who has the blocks of a placement, as devices of the cluster: as many as possible stay. [size].

    `devices`: chosen ones, ascending.
    """
    moving_s(y, a, b, which, g)  # assigns them
    heads = owners[2:]
    projs = heads[a.n_layers * y.n_groups :]
    ffns = projs[a.n_layers :]
    units = ffns[a.n_layers :]
    owners[0] = devices[b.embed[which]]
    owners[1] = devices[b.lm_head[which]]
    for part in range(a.n_layers * y.n_groups):
        heads[part] = devices[g.heads[part]]
    for part in range(a.n_layers * a.n_units):
        units[part] = devices[g.units[part]]
    layer = 0
    for run in range(b.n_runs):
        at = which * b.n_runs + run
        proj, ffn = b.proj[at], IN_SHARDS
        for place in range(b.n):
            if b.units[at * b.n + place] == a.n_units:
                ffn = devices[place]
        for _ in range(b.lengths[run]):
            projs[layer] = devices[proj] if proj >= 0 else IN_SHARDS
            ffns[layer] = ffn
            layer += 1
